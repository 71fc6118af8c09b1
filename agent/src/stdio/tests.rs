#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::*;
use crate::reaper::ExitWatch;

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, terminal: false };

fn running() -> ExitWatch {
    let (sender, receiver) = watch::channel(None);
    // A process that never ends in the test.
    std::mem::forget(sender);
    receiver
}

/// A shell on pipes, and what the agent holds of them.
fn shell(script: &str, wanted: Wanted) -> (Stdio, std::process::Child) {
    let uid = rustix::process::getuid().as_raw();
    let (stdio, ends) = Stdio::pipes(wanted, uid).unwrap();
    let child = std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .stdin(ends.stdin)
        .stdout(ends.stdout)
        .stderr(ends.stderr)
        .spawn()
        .unwrap();
    (stdio, child)
}

#[tokio::test]
async fn bytes_pass_both_ways_and_end() {
    let (stdio, mut child) = shell("cat; echo done >&2", ALL);
    let (mut in_host, mut in_agent) = UnixStream::pair().unwrap();
    let (mut out_host, mut out_agent) = UnixStream::pair().unwrap();
    let (mut err_host, mut err_agent) = UnixStream::pair().unwrap();
    let mut input = stdio.fetch_input().unwrap();
    let mut output = stdio.fetch_output(StreamName::Stdout).unwrap();
    let mut errors = stdio.fetch_output(StreamName::Stderr).unwrap();
    let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let host = async {
        let send = async {
            in_host.write_all(&sent[3..]).await.unwrap();
            in_host.shutdown().await.unwrap();
        };
        let out = out_host.read_to_end(&mut out);
        let err = err_host.read_to_end(&mut err);
        let (_, out, err) = tokio::join!(send, out, err);
        (out.unwrap(), err.unwrap())
    };
    let agent = async {
        let fed = input.feed(&mut in_agent, &sent[..3], running());
        let (fed, out, err) =
            tokio::join!(fed, output.drain(&mut out_agent), errors.drain(&mut err_agent));
        fed.unwrap();
        out.unwrap();
        err.unwrap();
    };
    tokio::join!(host, agent);
    assert!(out == sent, "{} bytes", out.len());
    assert_eq!(err, b"done\n");
    drop((input, output, errors));
    assert_eq!(stdio.fetch_input().map(|_| ()).unwrap_err(), FetchError::Closed);
    child.wait().unwrap();
}

#[tokio::test]
async fn streams_are_fetched_once_at_a_time_and_only_if_there() {
    let wanted = Wanted { stdout: true, ..Wanted::default() };
    let (stdio, mut child) = shell(":", wanted);
    let first = stdio.fetch_output(StreamName::Stdout).unwrap();
    let refused = |name| stdio.fetch_output(name).map(|_| ()).unwrap_err();
    assert_eq!(refused(StreamName::Stdout), FetchError::InUse(StreamName::Stdout));
    assert_eq!(refused(StreamName::Stderr), FetchError::Absent(StreamName::Stderr));
    let absent = FetchError::Absent(StreamName::Stdin);
    assert_eq!(stdio.fetch_input().map(|_| ()).unwrap_err(), absent);
    drop(first);
    assert!(stdio.fetch_output(StreamName::Stdout).is_ok());
    child.wait().unwrap();
}

/// What was read from the process and not taken by a connection is not lost.
#[tokio::test]
async fn a_broken_connection_loses_nothing_that_was_not_sent() {
    let (stdio, mut child) = shell("echo first; cat; echo second", ALL);
    let (host, mut agent) = UnixStream::pair().unwrap();
    drop(host);
    let mut output = stdio.fetch_output(StreamName::Stdout).unwrap();
    assert!(output.drain(&mut agent).await.is_err());
    drop(output);
    // End of its input.
    drop(stdio.stdin.as_ref().unwrap().lock().await.feed(&mut agent, b"", running()).await);
    let (mut host, mut agent) = UnixStream::pair().unwrap();
    let mut output = stdio.fetch_output(StreamName::Stdout).unwrap();
    let mut text = String::new();
    let (drained, read) = tokio::join!(output.drain(&mut agent), host.read_to_string(&mut text));
    drained.unwrap();
    read.unwrap();
    assert_eq!(text, "first\nsecond\n");
    child.wait().unwrap();
}

#[tokio::test]
async fn a_host_that_only_stops_sending_still_gets_output() {
    let (stdio, mut child) = shell("cat; echo out", ALL);
    let (mut host, mut agent) = UnixStream::pair().unwrap();
    host.shutdown().await.unwrap();
    let mut output = stdio.fetch_output(StreamName::Stdout).unwrap();
    let mut text = String::new();
    let end_input = async {
        let (input_host, mut input_agent) = UnixStream::pair().unwrap();
        drop(input_host);
        let mut input = stdio.fetch_input().unwrap();
        let _ = input.feed(&mut input_agent, b"", running()).await;
    };
    let (drained, read, ()) =
        tokio::join!(output.drain(&mut agent), host.read_to_string(&mut text), end_input);
    drained.unwrap();
    read.unwrap();
    assert_eq!(text, "out\n");
    child.wait().unwrap();
}

#[tokio::test]
async fn input_ends_when_nobody_can_read_it() {
    let (stdio, mut child) = shell("exec <&-", ALL);
    let (mut host, mut agent) = UnixStream::pair().unwrap();
    let mut input = stdio.fetch_input().unwrap();
    // The host keeps its side open.
    input.feed(&mut agent, b"", running()).await.unwrap();
    assert!(input.is_closed());
    let mut rest = Vec::new();
    assert_eq!(host.read_to_end(&mut rest).await.unwrap(), 0);
    child.wait().unwrap();
}

#[tokio::test]
async fn a_terminal_carries_bytes_and_has_a_size() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let wanted = Wanted { stdin: true, stdout: true, stderr: true, terminal: true };
    let stdio = Stdio::on_terminal(wanted, Terminal::new(pty.master).unwrap());
    stdio.terminal().unwrap().resize(100, 30).unwrap();
    let absent = FetchError::Absent(StreamName::Stderr);
    assert_eq!(stdio.fetch_output(StreamName::Stderr).map(|_| ()).unwrap_err(), absent);
    let slave = || std::process::Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = std::process::Command::new("sh")
        .arg("-c")
        .arg("stty size; read line; echo got:$line")
        .stdin(slave())
        .stdout(slave())
        .spawn()
        .unwrap();
    drop(pty.slave);
    let (mut host, mut agent) = UnixStream::pair().unwrap();
    let (mut keys_host, mut keys_agent) = UnixStream::pair().unwrap();
    keys_host.write_all(b"hello\n").await.unwrap();
    let mut input = stdio.fetch_input().unwrap();
    let mut output = stdio.fetch_output(StreamName::Stdout).unwrap();
    let (sender, exit) = watch::channel(None);
    let mut text = String::new();
    let host_side = async {
        host.read_to_string(&mut text).await.unwrap();
        sender.send_replace(Some(crate::reaper::Exit { status: 0, at: SystemTime::now() }));
    };
    let fed = input.feed(&mut keys_agent, b"", exit);
    let (drained, (), fed) = tokio::join!(output.drain(&mut agent), host_side, fed);
    drained.unwrap();
    fed.unwrap();
    assert!(text.contains("30 100\r\n") && text.contains("got:hello\r\n"), "{text:?}");
    child.wait().unwrap();
}
