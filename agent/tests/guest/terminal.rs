//! Containers on a terminal.

use sandbox_agent_protocol::agent::ResizePtyRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use ttrpc::Code;

use crate::protocol::code;
use crate::vm::{Stdio_, Vm, ctx, spec, stdio};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case!(terminal::output_size_and_keys),
    case!(terminal::belongs_to_the_user),
    case!(terminal::none),
];

fn on_terminal() -> Stdio_ {
    Stdio_ { stdin: true, stdout: true, terminal: true, ..Default::default() }
}

fn resize(id: &str, width: u32, height: u32) -> ResizePtyRequest {
    ResizePtyRequest { container_id: id.into(), width, height, ..Default::default() }
}

pub async fn output_size_and_keys(vm: &Vm) {
    vm.rootfs("tty");
    let script = "stty size; test -t 0 && test -t 1 && test -t 2 && echo tty; \
                  trap 'echo int; exit 9' INT; echo go; read x; stty size; \
                  while :; do sleep 1; done";
    let mut spec = spec("tty", &["sh", "-c", script]);
    spec["process"]["terminal"] = true.into();
    spec["process"]["consoleSize"] = serde_json::json!({"width": 81, "height": 25});
    vm.create("tty", &spec, on_terminal()).await.unwrap();
    let mut out = vm.fetch("tty - stdout").await.unwrap();
    let mut keys = vm.fetch("tty - stdin").await.unwrap();
    vm.start("tty").await.unwrap();
    let mut seen = String::new();
    read_until(&mut out, &mut seen, "go\r\n").await;
    assert!(seen.contains("tty\r\n"), "{seen:?}");
    assert!(seen.starts_with("25 81\r\n"), "{seen:?}");
    vm.agent.resize_pty(ctx(), &resize("tty", 120, 40)).await.unwrap();
    keys.get_mut().write_all(b"\n").await.unwrap();
    read_until(&mut out, &mut seen, "40 120\r\n").await;
    keys.get_mut().write_all(b"\x03").await.unwrap();
    read_until(&mut out, &mut seen, "int\r\n").await;
    assert_eq!(vm.wait("tty").await.exit_status, 9);
    let mut rest = String::new();
    out.read_to_string(&mut rest).await.unwrap();
    let error = vm.agent.resize_pty(ctx(), &resize("tty", 70000, 1)).await.unwrap_err();
    assert_eq!(code(&error).0, Code::INVALID_ARGUMENT);
    vm.delete("tty").await.unwrap();
}

pub async fn belongs_to_the_user(vm: &Vm) {
    vm.rootfs("ttyuser");
    let script = "echo one > $(tty); echo two > /dev/stderr; echo three > /dev/console";
    let mut spec = spec("ttyuser", &["sh", "-c", script]);
    spec["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000});
    vm.create("ttyuser", &spec, on_terminal()).await.unwrap();
    let mut out = vm.fetch("ttyuser - stdout").await.unwrap();
    vm.start("ttyuser").await.unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "one\r\ntwo\r\nthree\r\n");
    assert_eq!(vm.wait("ttyuser").await.exit_status, 0);
    vm.delete("ttyuser").await.unwrap();
}

async fn read_until(from: &mut (impl AsyncReadExt + Unpin), seen: &mut String, what: &str) {
    while !seen.contains(what) {
        let mut buf = [0; 1024];
        let read = from.read(&mut buf).await.unwrap();
        assert_ne!(read, 0, "ended before {what:?}: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buf[..read]));
    }
}

pub async fn none(vm: &Vm) {
    vm.rootfs("notty");
    vm.create("notty", &spec("notty", &["true"]), stdio(false, false, false)).await.unwrap();
    let error = vm.agent.resize_pty(ctx(), &resize("notty", 80, 24)).await.unwrap_err();
    assert_eq!(code(&error).0, Code::FAILED_PRECONDITION);
    vm.delete("notty").await.unwrap();
}
