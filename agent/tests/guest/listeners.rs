//! Reports of what listens, and connections that are led to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use sandbox_agent_protocol::agent::ListenersRequest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::program;
use crate::vm::{Vm, ctx, spec, stdio};
use crate::{Case, case};

pub const CASES: &[Case] = &[case!(listeners::reported), case!(listeners::forwarded)];

/// Ports of this file's programs: what else listens is not looked at.
const PORTS: std::ops::Range<u32> = 20_000..60_000;

struct Program {
    stdin: BufReader<UnixStream>,
    stdout: BufReader<UnixStream>,
}

impl Program {
    async fn start(vm: &Vm, id: &str) -> Self {
        program::install(&vm.rootfs(id));
        let spec = spec(id, &[program::PATH, program::ARGUMENT]);
        vm.create(id, &spec, stdio(true, true, false)).await.unwrap();
        let stdin = vm.fetch(&format!("{id} - stdin")).await.unwrap();
        let stdout = vm.fetch(&format!("{id} - stdout")).await.unwrap();
        vm.start(id).await.unwrap();
        let mut program = Self { stdin, stdout };
        assert_eq!(program.line().await, "ready");
        program
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn tell(&mut self, order: &str) {
        self.stdin.get_mut().write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    async fn order(&mut self, order: &str) {
        self.tell(order).await;
        assert_eq!(self.line().await, order);
    }

    async fn end(mut self, vm: &Vm, id: &str) {
        self.stdin.get_mut().shutdown().await.unwrap();
        assert_eq!(vm.wait(id).await.exit_status, 0);
        vm.delete(id).await.unwrap();
    }
}

/// What the agent reports, as a host has it that asks again and again.
struct Reports<'a> {
    vm: &'a Vm,
    generation: u64,
    listeners: BTreeSet<String>,
    asked: usize,
}

impl<'a> Reports<'a> {
    fn new(vm: &'a Vm) -> Self {
        Self { vm, generation: 0, listeners: BTreeSet::new(), asked: 0 }
    }

    async fn next(&mut self) {
        let request = ListenersRequest { generation: self.generation, ..Default::default() };
        let answer = self.vm.agent.listeners(ctx(), &request).await.unwrap();
        assert_ne!(answer.generation, self.generation);
        self.generation = answer.generation;
        self.asked += 1;
        let ours = answer.listeners.iter().filter(|listener| PORTS.contains(&listener.port));
        let shown = ours.map(|listener| {
            let ip = match listener.ip.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(&listener.ip[..]).unwrap()),
                _ => IpAddr::from(<[u8; 16]>::try_from(&listener.ip[..]).unwrap()),
            };
            let at = SocketAddr::new(ip, listener.port as u16);
            let udp = if listener.udp { "udp " } else { "" };
            let only = if listener.v6_only { " only" } else { "" };
            format!("{udp}{at}{only}")
        });
        self.listeners = shown.collect();
    }

    /// Waits until exactly these are reported.
    async fn are(&mut self, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|at| at.to_string()).collect();
        while self.listeners != expected {
            self.next().await;
        }
    }
}

pub async fn reported(vm: &Vm) {
    let mut program = Program::start(vm, "listen").await;
    let mut reports = Reports::new(vm);
    reports.next().await;
    reports.are(&[]).await;
    assert!(!vm.console().contains("no BPF"), "{}", vm.console());
    let mut times = Vec::new();
    for (order, expected) in [
        ("listen 0.0.0.0:20001", &["0.0.0.0:20001"][..]),
        ("listen 127.0.0.1:20002", &["0.0.0.0:20001", "127.0.0.1:20002"]),
        ("close 0.0.0.0:20001", &["127.0.0.1:20002"]),
        ("listen [::]:20001", &["[::]:20001", "127.0.0.1:20002"]),
        ("shutdown 127.0.0.1:20002", &["[::]:20001"]),
        ("only [::]:20003", &["[::]:20001", "[::]:20003 only"]),
        ("listen 0.0.0.0:20003", &["0.0.0.0:20003", "[::]:20001", "[::]:20003 only"]),
        (
            "listen [::1]:20004",
            &["0.0.0.0:20003", "[::]:20001", "[::]:20003 only", "[::1]:20004 only"],
        ),
        ("close [::]:20003", &["0.0.0.0:20003", "[::]:20001", "[::1]:20004 only"]),
        (
            "listen [::ffff:127.0.0.1]:20005",
            &["0.0.0.0:20003", "127.0.0.1:20005", "[::]:20001", "[::1]:20004 only"],
        ),
        ("none", &[]),
        // The kernel chooses, as for a client.
        ("udp 0.0.0.0:0", &[]),
        ("udp 0.0.0.0:20006", &["udp 0.0.0.0:20006"]),
        ("udp [::]:20007", &["udp 0.0.0.0:20006", "udp [::]:20007"]),
        ("udp-close 0.0.0.0:20006", &["udp [::]:20007"]),
        // Of those that the kernel chooses from, and named all the same.
        ("udp 127.0.0.1:45000", &["udp 127.0.0.1:45000", "udp [::]:20007"]),
        ("udp-connect [::]:20007 [::1]:9", &["udp 127.0.0.1:45000", "udp [::]:20007"]),
        ("udp-close 127.0.0.1:45000", &["udp [::]:20007"]),
        ("udp-close [::]:20007", &[]),
        ("none", &[]),
    ] {
        let began = Instant::now();
        program.order(order).await;
        reports.are(expected).await;
        times.push(began.elapsed());
    }
    println!("listeners: from each order to its report: {times:.1?}");
    inherited(&mut program, &mut reports).await;
    thousand(&mut program, &mut reports).await;
    program.end(vm, "listen").await;
    reports.are(&[]).await;
}

/// A socket listens for as long as any program has it.
async fn inherited(program: &mut Program, reports: &mut Reports<'_>) {
    program.order("listen 127.0.0.1:20010").await;
    reports.are(&["127.0.0.1:20010"]).await;
    program.tell("exec").await;
    assert_eq!(program.line().await, "ready");
    program.order("listen 127.0.0.1:20011").await;
    reports.are(&["127.0.0.1:20010", "127.0.0.1:20011"]).await;
    program.order("close 127.0.0.1:20010").await;
    reports.are(&["127.0.0.1:20011"]).await;
    program.order("none").await;
    reports.are(&[]).await;
}

/// Many changes are few reports.
async fn thousand(program: &mut Program, reports: &mut Reports<'_>) {
    let all: Vec<String> = (21_000..22_000).map(|port| format!("127.0.0.1:{port}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let before = reports.asked;
    let began = Instant::now();
    program.order("many 21000 1000").await;
    reports.are(&all).await;
    program.order("none").await;
    reports.are(&[]).await;
    let asked = reports.asked - before;
    println!("listeners: 1000 opened and closed in {:?}, {asked} reports", began.elapsed());
    assert!(asked < 500, "{asked} reports");
}

pub async fn forwarded(vm: &Vm) {
    let mut program = Program::start(vm, "forward").await;
    program.order("echo 127.0.0.1:30080").await;
    program.order("echo [::1]:30081").await;
    for target in ["127.0.0.1:30080", "[::1]:30081"] {
        let mut stream = vm.forward(target).await.unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let mut received = Vec::new();
        let (mut from, mut to) = stream.get_mut().split();
        let feed = async {
            to.write_all(&sent).await.unwrap();
            // The server sees the end, and answers what it still has.
            to.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(feed, from.read_to_end(&mut received));
        read.unwrap();
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    }
    let refusal = vm.forward("127.0.0.1:30082").await.unwrap_err();
    assert!(refusal.starts_with("ERR connecting to 127.0.0.1:30082: Connection ref"), "{refusal}");
    for bad in ["10.0.0.1:80", "127.0.0.1", "localhost:80", &"1".repeat(300)] {
        let refusal = vm.forward(bad).await.unwrap_err();
        assert!(refusal.starts_with("ERR "), "{refusal}");
    }
    program.end(vm, "forward").await;
}
