//! The cases: each is a function of a [`Client`] and runs with both.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use sandbox_tests::{Bed, exec, is_ours, tests};

use crate::client::{Client, IMAGE, Kind, with};
use crate::installer::installer_image;

/// Makes each case a test of Docker and a test of nerdctl.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub mod docker {
            use super::*;
            tests![$(Any $name),*];
            $(fn $name(bed: &Bed) { with(bed, Kind::Docker, super::$name); })*
        }
        pub mod nerdctl {
            use super::*;
            tests![$(Any $name),*];
            $(fn $name(bed: &Bed) { with(bed, Kind::Nerdctl, super::$name); })*
        }
    };
}

cases![
    run_and_its_exit_code,
    input_and_a_terminal,
    logs_of_a_detached_container,
    exec_in_a_container,
    cp,
    stop_and_kill,
    restart_policies,
    out_of_memory,
    stats_and_top,
    pause,
    limits_and_update,
    published_ports,
    containers_reach_each_other,
    compose,
    volumes,
    security,
    hostname_and_names,
    interfaces,
    init,
    another_daemon,
    installer_image,
];

/// Prints `served` to each client of port 80.
const SERVE: &str = "while :; do echo served | nc -l -p 80; done";

fn run_and_its_exit_code(c: &Client) {
    assert_eq!(c.run(&["--rm", IMAGE, "echo", "hi"]).ok().text(), "hi");
    c.run(&["--rm", IMAGE, "sh", "-c", "exit 7"]).exits(7);
    let missing = c.run(&["--rm", IMAGE, "nonesuch"]).fails_with(&["nonesuch"]);
    // nerdctl exits with 1 for every failure of its own, also with runc.
    assert_eq!(missing.code, if c.kind == Kind::Docker { 127 } else { 1 });
}

fn input_and_a_terminal(c: &Client) {
    // nerdctl loses an end of input that comes before the task is there: the
    // container prints a line first.
    let runtime = c.runtime();
    let mut cat = c.command(&["run", "--runtime", &runtime, "-i", "--rm", IMAGE, "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    input.write_all(b"from stdin\n").unwrap();
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).unwrap();
    assert_eq!(line, "from stdin\n");
    drop(input);
    assert!(cat.wait().unwrap().success());
    let line = format!(
        "{} run --runtime {} -it --rm {IMAGE} sh -c 'tty; stty size'",
        c.line(),
        c.runtime()
    );
    let out = exec(c.program("script").args(["-qec", &line, "/dev/null"]), &[]).ok().text();
    assert!(out.contains("/dev/pts/") || out.contains("/dev/console"), "{out}");
}

fn logs_of_a_detached_container(c: &Client) {
    c.start(&c.id, &[IMAGE, "sh", "-c", "echo one; echo two >&2; sleep 1000"]);
    let logs = || c.call(&["logs", &c.id]).ok();
    c.until("both lines", 10, || {
        let out = logs();
        !out.text().is_empty() && !out.errors().is_empty()
    });
    assert_eq!((logs().text(), logs().errors()), ("one".to_owned(), "two".to_owned()));
}

fn exec_in_a_container(c: &Client) {
    c.start(&c.id, &["-e", "A=1", IMAGE, "sleep", "1000"]);
    assert_eq!(c.text(&["exec", "-e", "B=2", &c.id, "sh", "-c", "echo $A $B"]), "1 2");
    assert_eq!(c.text(&["exec", "-u", "7", &c.id, "id", "-u"]), "7");
    assert_eq!(c.text(&["exec", "-w", "/tmp", &c.id, "pwd"]), "/tmp");
    let out = exec(&mut c.command(&["exec", "-i", &c.id, "cat"]), b"from stdin\n").ok();
    assert_eq!(out.text(), "from stdin");
    let failed = c.call(&["exec", &c.id, "sh", "-c", "exit 3"]);
    match c.kind {
        Kind::Docker => failed.exits(3),
        // With every runtime it exits with 1 and prints the code.
        Kind::Nerdctl => failed.exits(1).fails_with(&["exit code 3"]),
    };
}

fn cp(c: &Client) {
    c.start(&c.id, &[IMAGE, "sh", "-c", "echo inside >/tmp/a; sleep 1000"]);
    c.until("the file", 10, || c.call(&["exec", &c.id, "test", "-s", "/tmp/a"]).code == 0);
    let (from, to) = (c.bed.dir().join("from"), c.bed.dir().join("to"));
    if is_ours() && c.lacks(Kind::Nerdctl, "cp of a running container: docs/decisions/008") {
        // It fails, and no copy arrives where the container does not see it.
        let from = from.to_str().unwrap();
        c.call(&["cp", &format!("{}:/tmp/a", c.id), from]).fails_with(&["no such file"]);
        fs::write(&to, "outside\n").unwrap();
        let root = format!("{}:/b", c.id);
        c.call(&["cp", to.to_str().unwrap(), &root]).fails_with(&["Read-only file system"]);
        return;
    }
    c.call(&["cp", &format!("{}:/tmp/a", c.id), from.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&from).unwrap(), "inside\n");
    fs::write(&to, "outside\n").unwrap();
    c.call(&["cp", to.to_str().unwrap(), &format!("{}:/tmp/b", c.id)]).ok();
    assert_eq!(c.inside(&["cat", "/tmp/b"]), "outside");
}

fn stop_and_kill(c: &Client) {
    let line = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    c.start(&c.id, &[IMAGE, "sh", "-c", line]);
    // A first process that does not handle the signal yet ignores it.
    c.until("the trap", 10, || c.text(&["logs", &c.id]).contains("ready"));
    c.call(&["stop", &c.id]).ok();
    assert_eq!(c.inspect("{{.State.ExitCode}}"), "5");
    c.call(&["start", &c.id]).ok();
    c.call(&["kill", &c.id]).ok();
    c.until_is("exited", 10);
    assert_eq!(c.inspect("{{.State.ExitCode}}"), "137");
    c.call(&["start", &c.id]).ok();
    assert!(c.is("running"));
    c.call(&["restart", "-t", "5", &c.id]).ok();
    assert!(c.is("running"));
}

/// The attempts are lines of a file of the host: nerdctl begins its log again
/// with each of them.
fn restart_policies(c: &Client) {
    let attempts = c.bed.dir().join("attempts");
    fs::create_dir(&attempts).unwrap();
    let volume = format!("{}:/attempts", attempts.display());
    let policy = ["--restart", "on-failure:2", "-v", &volume];
    let line = "echo again | tee -a /attempts/all; exit 1";
    c.start(&c.id, &[&policy[..], &[IMAGE, "sh", "-c", line]].concat());
    let all = || fs::read_to_string(attempts.join("all")).unwrap_or_default();
    c.until("the last attempt", 60, || all().lines().count() == 3 && c.is("exited"));
    let logs = c.text(&["logs", &c.id]);
    match c.kind {
        Kind::Docker => {
            assert_eq!(c.inspect("{{.RestartCount}}"), "2");
            assert_eq!(logs, "again\nagain\nagain");
        }
        Kind::Nerdctl => assert_eq!(logs, "again"),
    }
    assert_eq!(all(), "again\nagain\nagain\n");
}

fn out_of_memory(c: &Client) {
    c.start(&c.id, &["--memory", "32m", IMAGE, "sh", "-c", "x=a; while :; do x=$x$x; done"]);
    c.until_is("exited", 60);
    assert_eq!(c.inspect("{{.State.ExitCode}}"), "137");
    if !c.lacks(Kind::Nerdctl, "inspect has no State.OOMKilled") {
        assert_eq!(c.inspect("{{.State.OOMKilled}}"), "true");
    }
}

fn stats_and_top(c: &Client) {
    c.start(&c.id, &["--memory", "64m", IMAGE, "sh", "-c", "sleep 1000 & sleep 2000"]);
    let words = ["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", &c.id];
    c.until("memory and processes", 10, || {
        let out = c.text(&words);
        let parts: Vec<&str> = out.split_whitespace().collect();
        let pids = parts.last().and_then(|last| last.parse::<u32>().ok());
        (parts[0].ends_with("KiB") || parts[0].ends_with("MiB"))
            && parts.contains(&"64MiB")
            && pids.is_some_and(|pids| (2..10).contains(&pids))
    });
    if is_ours() {
        // The process that stands for the microVM, and no process of the host's.
        let out = c.text(&["top", &c.id, "-o", "pid,comm"]);
        let programs: Vec<&str> =
            out.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(programs, ["sandbox-vmm"]);
    }
}

fn pause(c: &Client) {
    c.start(&c.id, &[IMAGE, "sh", "-c", "while :; do date +%N >/tmp/now; done"]);
    c.call(&["pause", &c.id]).ok();
    assert!(c.is("paused"));
    c.call(&["unpause", &c.id]).ok();
    assert!(c.is("running"));
    c.inside(&["true"]);
}

fn limits_and_update(c: &Client) {
    let limits = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"];
    c.start(&c.id, &[&limits[..], &[IMAGE, "sleep", "1000"]].concat());
    let line = "cd /sys/fs/cgroup; echo $(cat memory.max cpu.max pids.max)";
    assert_eq!(c.inside(&["sh", "-c", line]), "67108864 50000 100000 50");
    let limits = ["--memory", "96m", "--memory-swap", "96m", "--pids-limit", "60"];
    let cpus = match c.kind {
        Kind::Docker => ["--cpus", "0.25"],
        // nerdctl 1.7 takes --cpus of update for names of CPUs.
        Kind::Nerdctl => ["--cpu-quota", "25000"],
    };
    c.call(&[&["update"], &limits[..], &cpus[..], &[&c.id]].concat()).ok();
    assert_eq!(c.inside(&["sh", "-c", line]), "100663296 25000 100000 60");
}

fn published_ports(c: &Client) {
    c.start(&c.id, &["-p", "127.0.0.1::80", IMAGE, "sh", "-c", SERVE]);
    let published = c.text(&["port", &c.id, "80/tcp"]);
    let (ip, port) = published.lines().next().unwrap().rsplit_once(':').unwrap();
    c.until("the answer", 20, || {
        exec(Command::new("timeout").args(["2", "busybox", "nc", ip, port]), &[]).text() == "served"
    });
}

fn containers_reach_each_other(c: &Client) {
    c.call(&["network", "create", &c.id]).ok();
    let server = format!("{}-server", c.id);
    c.start(&server, &["--network", &c.id, IMAGE, "sh", "-c", SERVE]);
    // Docker's own resolver knows the name; nerdctl writes it to /etc/hosts.
    let line = format!("nc {server} 80 </dev/null");
    c.until("the answer", 20, || {
        c.run(&["--rm", "--network", &c.id, IMAGE, "sh", "-c", &line]).text().contains("served")
    });
    c.call(&["rm", "-f", &server]).ok();
    c.call(&["network", "rm", &c.id]).ok();
}

/// nerdctl 1.7 runs no health checks: there the client asks until it is served.
fn compose(c: &Client) {
    let (id, runtime) = (&c.id, c.runtime());
    let (check, after) = match c.kind {
        Kind::Docker => (
            "healthcheck: {test: [\"CMD\", \"pidof\", \"nc\"], interval: 1s, retries: 30}",
            "{server: {condition: service_healthy}}",
        ),
        Kind::Nerdctl => ("", "[server]"),
    };
    c.lacks(Kind::Nerdctl, "healthcheck and service_healthy of compose: nerdctl has none");
    let file = c.bed.dir().join("compose.yaml");
    let text = format!(
        r#"name: {id}
services:
  server:
    image: {IMAGE}
    runtime: {runtime}
    command: sh -c '{SERVE}'
    {check}
  client:
    image: {IMAGE}
    runtime: {runtime}
    depends_on: {after}
    environment: {{WORD: got}}
    volumes: ["data:/data"]
    command: sh -c 'until answer=$$(nc server 80 </dev/null) && [ "$$answer" ]; do sleep 0.2; done; echo $$WORD $$answer | tee /data/file'
volumes: {{data: {{}}}}
"#
    );
    fs::write(&file, text).unwrap();
    let compose =
        |words: &[&str]| c.call(&[&["compose", "-f", file.to_str().unwrap()], words].concat());
    compose(&["up", "-d", "--quiet-pull"]).ok();
    let client = format!("{id}-client-1");
    c.until("the client's line", 20, || c.text(&["logs", &client]).contains("served"));
    assert_eq!(c.text(&["logs", &client]), "got served");
    // The line comes before the exit of the client.
    let running = ["ps", "--services", "--status", "running"];
    c.until("only the server runs", 10, || compose(&running).ok().text() == "server");
    match c.kind {
        Kind::Docker => compose(&["down", "-v", "--timeout", "1"]).ok(),
        Kind::Nerdctl => compose(&["down", "-v"]).ok(),
    };
    let label = format!("label=com.docker.compose.project={id}");
    assert_eq!(c.text(&["ps", "-aq", "--filter", &label]), "");
}

fn volumes(c: &Client) {
    let bound = c.bed.dir().join("bound");
    fs::create_dir(&bound).unwrap();
    fs::write(bound.join("file"), "bound\n").unwrap();
    let (rw, ro) = (format!("{}:/data", bound.display()), format!("{}:/data:ro", bound.display()));
    assert_eq!(c.run(&["--rm", "-v", &rw, IMAGE, "cat", "/data/file"]).ok().text(), "bound");
    c.run(&["--rm", "-v", &rw, IMAGE, "sh", "-c", "echo back >/data/back"]).ok();
    assert_eq!(fs::read_to_string(bound.join("back")).unwrap(), "back\n");
    c.run(&["--rm", "-v", &ro, IMAGE, "touch", "/data/x"]).fails_with(&["Read-only"]);
    let named = format!("{}:/data", c.id);
    c.run(&["--rm", "-v", &named, IMAGE, "sh", "-c", "echo kept >/data/file"]).ok();
    assert_eq!(c.run(&["--rm", "-v", &named, IMAGE, "cat", "/data/file"]).ok().text(), "kept");
    c.call(&["volume", "rm", &c.id]).ok();
}

fn security(c: &Client) {
    let run = |words: &[&str]| c.run(&[&["--rm"], words].concat());
    let ids = run(&["--user", "7:8", IMAGE, "sh", "-c", "echo $(id -u) $(id -g)"]);
    assert_eq!(ids.ok().text(), "7 8");
    run(&["--read-only", IMAGE, "touch", "/x"]).fails_with(&["Read-only"]);
    run(&["--read-only", "--tmpfs", "/tmp", IMAGE, "touch", "/tmp/x"]).ok();
    let line = "sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status";
    let capabilities = run(&["--cap-drop", "ALL", IMAGE, "sh", "-c", line]).ok().text();
    assert!(capabilities.bytes().all(|byte| byte == b'0'), "{capabilities}");
    let chown = run(&["--cap-drop", "CHOWN", IMAGE, "chown", "1", "/tmp"]);
    chown.fails_with(&["Operation not permitted"]);
}

fn hostname_and_names(c: &Client) {
    assert_eq!(c.run(&["--rm", "--hostname", "box", IMAGE, "hostname"]).ok().text(), "box");
    let hosts = c.run(&["--rm", "--add-host", "other:192.0.2.7", IMAGE, "cat", "/etc/hosts"]).ok();
    let named = |line: &str| line.split_whitespace().eq(["192.0.2.7", "other"]);
    assert!(hosts.text().lines().any(named), "{}", hosts.text());
    let resolver = c.run(&["--rm", "--dns", "192.0.2.9", IMAGE, "cat", "/etc/resolv.conf"]).ok();
    assert!(resolver.text().contains("nameserver"), "{}", resolver.text());
}

/// A container has the interfaces that its network gives it, and no other.
fn interfaces(c: &Client) {
    let list = ["ls", "/sys/class/net"];
    if is_ours() {
        assert_eq!(c.run(&[&["--rm", IMAGE], &list[..]].concat()).ok().text(), "eth0\nlo");
    }
    let none = c.run(&[&["--rm", "--network", "none", IMAGE], &list[..]].concat());
    assert_eq!(none.ok().text(), "lo");
}

fn init(c: &Client) {
    let name = if c.kind == Kind::Docker { "docker-init" } else { "tini" };
    assert_eq!(c.run(&["--rm", "--init", IMAGE, "cat", "/proc/1/comm"]).ok().text(), name);
}

fn another_daemon(c: &Client) {
    if c.lacks(Kind::Nerdctl, "nerdctl has no daemon; tests/lifecycle restarts containerd") {
        return;
    }
    c.start(&c.id, &[IMAGE, "sleep", "1000"]);
    c.stop_daemon();
    c.start_daemon();
    c.until_is("running", 10);
    c.inside(&["true"]);
    c.call(&["kill", &c.id]).ok();
    c.until_is("exited", 10);
}
