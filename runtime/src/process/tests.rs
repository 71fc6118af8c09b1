#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use super::*;

async fn spawn(args: &[&str]) -> HostProcess {
    let launcher = Launcher { program: Path::new("/bin/sh"), args, fds: Vec::new() };
    HostProcess::spawn(launcher).await.unwrap()
}

#[test]
fn a_name_with_parentheses_and_spaces_is_skipped() {
    let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
    for (state, ended) in [("S", false), ("Z", true), ("X", true)] {
        let stat = Stat::parse(&format!("7 (a) b (c)) {state} {}", fields.join(" "))).unwrap();
        assert_eq!((stat.start_time, stat.ended), (22, ended), "{state}");
    }
    assert!(Stat::parse("7 (sh) S 1").is_none());
    assert!(Stat::parse("").is_none());
}

#[test]
fn a_reused_pid_is_another_process() {
    let me = ProcessId::of(std::process::id()).unwrap();
    assert!(me.is_alive());
    let former = ProcessId { start_time: me.start_time - 1, ..me };
    assert!(!former.is_alive());
    assert!(former.open().is_none());
    assert!(me.open().is_some());
}

#[tokio::test]
async fn one_that_waits_to_be_reaped_runs_no_more() {
    let process = spawn(&["-c", "exec sleep 100"]).await;
    process.kill();
    process.pidfd.readable().await.unwrap().retain_ready();
    assert!(!process.id().is_alive());
    assert!(process.id().open().is_some(), "its threads may run on");
    process.reap();
    assert!(process.id().open().is_none());
}

#[tokio::test]
async fn an_exit_is_told_in_words() {
    assert_eq!(spawn(&["-c", "exit 3"]).await.exited().await, "exited with status 3");
    let process = spawn(&["-c", "exec sleep 100"]).await;
    process.kill();
    assert_eq!(process.exited().await, "was killed by signal 9");
}

#[tokio::test]
async fn a_dropped_process_is_gone() {
    let process = spawn(&["-c", "exec sleep 100"]).await;
    let id = process.id();
    assert!(id.is_alive());
    drop(process);
    assert!(!id.is_alive());
}

#[tokio::test]
async fn descriptors_arrive_and_the_environment_does_not() {
    let (reader, writer) = std::io::pipe().unwrap();
    let process = HostProcess::spawn(Launcher {
        program: Path::new("/bin/sh"),
        args: &["-c", "/usr/bin/env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= >&7; echo end >&7"],
        fds: vec![(writer.into(), 7)],
    })
    .await
    .unwrap();
    let all = tokio::task::spawn_blocking(move || std::io::read_to_string(reader));
    let text = tokio::time::timeout(Duration::from_secs(10), all).await.unwrap().unwrap().unwrap();
    assert_eq!(text, "end\n");
    process.exited().await;
}

#[tokio::test]
async fn a_missing_binary_is_an_error() {
    let launcher =
        Launcher { program: Path::new("/nonexistent/binary"), args: &[], fds: Vec::new() };
    assert_eq!(HostProcess::spawn(launcher).await.unwrap_err().kind(), io::ErrorKind::NotFound);
}
