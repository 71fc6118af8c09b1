//! Standard streams.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::vm::{PATIENCE, Vm, spec, stdio};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case!(streams::apart_and_exact),
    case!(streams::through_cat),
    case!(streams::burst_before_exit),
    case!(streams::slow_reader),
    case!(streams::fetched_once_at_a_time),
    case!(streams::grandchild_keeps_the_pipe),
    case!(streams::broken_pipe_kills),
    case!(streams::refusals),
    case!(streams::reader_that_leaves_early),
];

pub async fn apart_and_exact(vm: &Vm) {
    vm.rootfs("apart");
    let script = r"printf 'out\000\377\n'; printf 'err\001\376' >&2";
    let outcome = vm.run("apart", &spec("apart", &["sh", "-c", script])).await;
    assert_eq!(outcome.out, b"out\0\xff\n");
    assert_eq!(outcome.err, b"err\x01\xfe");
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

pub async fn through_cat(vm: &Vm) {
    vm.rootfs("cat");
    let input = noise(4 * 1024 * 1024);
    let outcome = vm.run_with("cat", &spec("cat", &["cat"]), &input).await;
    assert!(outcome.out == input, "{} of {} bytes", outcome.out.len(), input.len());
    assert_eq!(outcome.status, 0);
}

pub async fn burst_before_exit(vm: &Vm) {
    vm.rootfs("burst");
    let script = "dd if=/dev/zero bs=1M count=8 2>/dev/null; echo end";
    let outcome = vm.run("burst", &spec("burst", &["sh", "-c", script])).await;
    assert_eq!(outcome.out.len(), 8 * 1024 * 1024 + 4);
}

/// A stream that nobody reads holds up neither another nor the process's end.
pub async fn slow_reader(vm: &Vm) {
    vm.rootfs("slow");
    let script = "yes >&2 & head -c 1000000 /dev/zero; kill -9 $!";
    vm.create("slow", &spec("slow", &["sh", "-c", script]), stdio(false, true, true))
        .await
        .unwrap();
    let mut stdout = vm.fetch("slow - stdout").await.unwrap();
    let mut stderr = vm.fetch("slow - stderr").await.unwrap();
    vm.start("slow").await.unwrap();
    let mut out = Vec::new();
    stdout.read_to_end(&mut out).await.unwrap();
    assert_eq!(out.len(), 1_000_000);
    vm.wait("slow").await;
    let mut err = Vec::new();
    stderr.read_to_end(&mut err).await.unwrap();
    assert!(err.chunks(2).all(|pair| pair == b"y\n" || pair == b"y"));
    vm.delete("slow").await.unwrap();
}

pub async fn fetched_once_at_a_time(vm: &Vm) {
    vm.rootfs("once");
    let script = "echo a; read x; echo b";
    vm.create("once", &spec("once", &["sh", "-c", script]), stdio(true, true, false))
        .await
        .unwrap();
    let mut first = vm.fetch("once - stdout").await.unwrap();
    let refusal = vm.fetch("once - stdout").await.unwrap_err();
    assert_eq!(refusal, "ERR stdout is in use by another connection");
    vm.start("once").await.unwrap();
    let mut line = [0; 2];
    first.read_exact(&mut line).await.unwrap();
    drop(first);
    // The agent hears of the end of a connection a moment later.
    let mut second = loop {
        match vm.fetch("once - stdout").await {
            Ok(second) => break second,
            Err(refusal) => assert!(refusal.contains("in use"), "{refusal}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let mut stdin = vm.fetch("once - stdin").await.unwrap();
    stdin.get_mut().write_all(b"\n").await.unwrap();
    let mut rest = String::new();
    second.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "b\n");
    vm.wait("once").await;
    vm.delete("once").await.unwrap();
}

/// Wait must not wait for whoever inherited a stream.
pub async fn grandchild_keeps_the_pipe(vm: &Vm) {
    vm.rootfs("heir");
    let script = "sleep 1000 & exit 6";
    let mut spec = spec("heir", &["sh", "-c", script]);
    spec["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "uts"}]);
    vm.create("heir", &spec, stdio(false, true, false)).await.unwrap();
    vm.start("heir").await.unwrap();
    let exit = tokio::time::timeout(PATIENCE / 2, vm.wait("heir")).await.unwrap();
    assert_eq!(exit.exit_status, 6);
    vm.delete("heir").await.unwrap();
}

/// SIGPIPE has its default action in containers.
pub async fn broken_pipe_kills(vm: &Vm) {
    vm.rootfs("sigpipe");
    let script = "(yes; echo $? >&2) | head -1";
    let outcome = vm.run("sigpipe", &spec("sigpipe", &["sh", "-c", script])).await;
    assert_eq!(outcome.text(), "y");
    assert_eq!(outcome.errors(), "141", "128 + SIGPIPE");
}

pub async fn refusals(vm: &Vm) {
    vm.rootfs("refuse");
    vm.create("refuse", &spec("refuse", &["sleep", "100"]), stdio(false, true, false))
        .await
        .unwrap();
    for (header, words) in [
        ("refuse - stderr", "ERR the process has no stderr"),
        ("refuse - stdin", "ERR the process has no stdin"),
        ("refuse x stdout", "ERR process x of container refuse does not exist in the guest"),
        ("nobody - stdout", "ERR container nobody does not exist in the guest"),
        ("refuse stdout", "ERR \"refuse stdout\" is not"),
        (&"x".repeat(5000), "ERR the header is longer than 1024 bytes"),
    ] {
        let refusal = vm.fetch(header).await.unwrap_err();
        assert!(refusal.starts_with(words), "{header}: {refusal}");
    }
    vm.delete("refuse").await.unwrap();
}

/// A program that ends without reading its stdin ends the connection.
pub async fn reader_that_leaves_early(vm: &Vm) {
    vm.rootfs("leaves");
    let outcome = vm.run_with("leaves", &spec("leaves", &["true"]), &noise(1 << 20)).await;
    assert_eq!(outcome.status, 0);
    vm.create("leaves", &spec("leaves", &["true"]), stdio(true, false, false)).await.unwrap();
    let mut stdin = vm.fetch("leaves - stdin").await.unwrap();
    vm.start("leaves").await.unwrap();
    // The host keeps its side open and learns of the end.
    let mut rest = Vec::new();
    stdin.read_to_end(&mut rest).await.unwrap();
    vm.delete("leaves").await.unwrap();
}
