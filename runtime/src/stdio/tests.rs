#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use sandbox_agent_protocol::STDIO_PORT;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_blocking;

use super::*;

/// A guest that answers each connection as the agent would, and hands out
/// header and stream.
async fn accept(listener: &UnixListener) -> (String, UnixStream) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).await.unwrap();
    assert_eq!(line, format!("CONNECT {STDIO_PORT}\n"));
    reader.get_mut().write_all(b"OK 7\n").await.unwrap();
    line.clear();
    reader.read_line(&mut line).await.unwrap();
    reader.get_mut().write_all(b"OK\n").await.unwrap();
    (line.trim_end().to_owned(), reader.into_inner())
}

struct Fifos {
    dir: tempfile::TempDir,
    stdio: Stdio,
    listener: UnixListener,
}

impl Fifos {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fifo = |name: &str| {
            let path = dir.path().join(name);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let stdio =
            Stdio { stdin: fifo("in"), stdout: fifo("out"), stderr: fifo("err"), terminal: false };
        let listener = UnixListener::bind(dir.path().join("vsock")).unwrap();
        Self { dir, stdio, listener }
    }

    /// Streams and, by name, the guest's ends.
    async fn attach(&self) -> (Streams, [UnixStream; 3]) {
        let opened = HostStreams::open("c", &self.stdio, "ns").await.unwrap();
        let vsock = self.dir.path().join("vsock");
        let guest = async {
            let (stdin, a) = accept(&self.listener).await;
            let (stdout, b) = accept(&self.listener).await;
            let (stderr, c) = accept(&self.listener).await;
            assert_eq!([stdin, stdout, stderr], ["c - stdin", "c - stdout", "c - stderr"]);
            [a, b, c]
        };
        let process = ProcessRef::init("c");
        let (streams, guest) = tokio::join!(opened.attach(&vsock, &process), guest);
        (streams.unwrap(), guest)
    }
}

fn read_all(path: &str) -> tokio::task::JoinHandle<Vec<u8>> {
    let path = path.to_owned();
    spawn_blocking(move || std::fs::read(path).unwrap())
}

#[tokio::test]
async fn output_arrives_whole_and_apart() {
    let fifos = Fifos::new();
    let (streams, [_stdin, mut stdout, mut stderr]) = fifos.attach().await;
    let (out, err) = (read_all(&fifos.stdio.stdout), read_all(&fifos.stdio.stderr));
    let data: Vec<u8> = (0..8 * 1024 * 1024u32).map(|n| (n % 251) as u8).collect();
    stdout.write_all(&data).await.unwrap();
    stderr.write_all(b"\0\xff").await.unwrap();
    drop((stdout, stderr));
    streams.finish().await;
    assert!(out.await.unwrap() == data);
    assert_eq!(err.await.unwrap(), b"\0\xff");
}

#[tokio::test]
async fn streams_are_dialled_at_the_same_time() {
    let fifos = Fifos::new();
    let opened = HostStreams::open("c", &fifos.stdio, "ns").await.unwrap();
    let vsock = fifos.dir.path().join("vsock");
    let guest = async {
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(fifos.listener.accept().await.unwrap().0);
        }
        for stream in &mut streams {
            // Output may arrive together with the answers.
            stream.write_all(b"OK 7\nOK\nearly ").await.unwrap();
        }
        streams
    };
    let process = ProcessRef::init("c");
    let (streams, guest) = tokio::join!(opened.attach(&vsock, &process), guest);
    let streams = streams.unwrap();
    let open = |path| std::fs::File::open(path).unwrap();
    let outputs = [open(&fifos.stdio.stdout), open(&fifos.stdio.stderr)];
    for mut stream in guest {
        stream.write_all(b"late").await.unwrap();
    }
    streams.finish().await;
    for output in outputs {
        assert_eq!(std::io::read_to_string(output).unwrap(), "early late");
    }
}

#[tokio::test]
async fn only_close_stdin_ends_input() {
    let fifos = Fifos::new();
    let (streams, [mut stdin, ..]) = fifos.attach().await;
    for text in ["one ", "two"] {
        let mut client = std::fs::OpenOptions::new().write(true).open(&fifos.stdio.stdin).unwrap();
        client.write_all(text.as_bytes()).unwrap();
    }
    let mut seven = [0; 7];
    stdin.read_exact(&mut seven).await.unwrap();
    assert_eq!(&seven, b"one two");
    let mut client = std::fs::OpenOptions::new().write(true).open(&fifos.stdio.stdin).unwrap();
    client.write_all(b" three").unwrap();
    streams.close_stdin();
    drop(client);
    let mut rest = String::new();
    stdin.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, " three");
}

#[tokio::test]
async fn a_client_may_leave_and_another_come() {
    let fifos = Fifos::new();
    let (streams, [_stdin, mut stdout, _stderr]) = fifos.attach().await;
    let path = fifos.stdio.stdout.clone();
    let first = spawn_blocking(move || {
        let mut byte = [0];
        std::fs::File::open(path).unwrap().read_exact(&mut byte).unwrap();
        byte[0]
    });
    stdout.write_all(b"a").await.unwrap();
    assert_eq!(first.await.unwrap(), b'a');
    stdout.write_all(b"bc").await.unwrap();
    let mut second = std::fs::File::open(&fifos.stdio.stdout).unwrap();
    drop(stdout);
    let rest = spawn_blocking(move || std::io::read_to_string(&mut second).unwrap());
    assert_eq!(rest.await.unwrap(), "bc");
    drop(streams);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_never_ends_is_left() {
    let fifos = Fifos::new();
    let (streams, guest) = fifos.attach().await;
    streams.finish().await;
    drop(guest);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    for (stdin, stdout, expected) in [
        ("/nonexistent/in", "", "cannot open stdin /nonexistent/in"),
        ("/etc/passwd", "", "cannot open stdin /etc/passwd"),
        ("", "/nonexistent/out", "cannot open stdout /nonexistent/out"),
        ("", "http://x", "stdout \"http://x\": only FIFO paths"),
    ] {
        let stdio = Stdio { stdin: stdin.into(), stdout: stdout.into(), ..Stdio::default() };
        let error = HostStreams::open("c", &stdio, "ns").await.err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn a_file_is_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    std::fs::write(&log, "before ").unwrap();
    let stdio = Stdio { stdout: format!("file://{}", log.display()), ..Stdio::default() };
    let opened = HostStreams::open("c", &stdio, "ns").await.unwrap();
    opened.stdout.unwrap().write(b"after").await.unwrap();
    assert_eq!(std::fs::read(&log).unwrap(), b"before after");
}

#[tokio::test]
async fn a_refusal_of_the_guest_is_told() {
    let fifos = Fifos::new();
    let opened = HostStreams::open("c", &fifos.stdio, "ns").await.unwrap();
    let vsock = fifos.dir.path().join("vsock");
    let guest = async {
        let (mut stream, _) = fifos.listener.accept().await.unwrap();
        stream.write_all(b"OK 1\nERR no such container\n").await.unwrap();
        stream
    };
    let process = ProcessRef::init("c");
    let (error, _stream) = tokio::join!(opened.attach(&vsock, &process), guest);
    let error = error.err().unwrap();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("no such container"), "{source}");
}
