#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UnixStream};

use super::*;

async fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    (listener, target)
}

/// The host's end of a connection that asks for `header`.
async fn ask(header: &str) -> UnixStream {
    let (mut host, agent) = UnixStream::pair().unwrap();
    tokio::spawn(answer(agent));
    host.write_all(header.as_bytes()).await.unwrap();
    host
}

async fn all_of(host: &mut UnixStream) -> String {
    let mut text = String::new();
    host.read_to_string(&mut text).await.unwrap();
    text
}

async fn expect(stream: &mut (impl AsyncRead + Unpin), text: &[u8]) {
    let mut read = vec![0; text.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(read, text);
}

#[tokio::test]
async fn each_half_ends_by_itself() {
    let (listener, target) = server().await;
    let mut host = ask(&format!("{target}\nearly ")).await;
    let (mut served, _) = listener.accept().await.unwrap();
    expect(&mut host, b"OK\n").await;
    host.write_all(b"and late").await.unwrap();
    host.shutdown().await.unwrap();
    let mut request = String::new();
    served.read_to_string(&mut request).await.unwrap();
    assert_eq!(request, "early and late");
    served.write_all(b"the answer").await.unwrap();
    drop(served);
    assert_eq!(all_of(&mut host).await, "the answer");
}

#[tokio::test]
async fn the_server_may_end_first() {
    let (listener, target) = server().await;
    let mut host = ask(&format!("{target}\n")).await;
    let (mut served, _) = listener.accept().await.unwrap();
    expect(&mut host, b"OK\n").await;
    served.shutdown().await.unwrap();
    assert_eq!(all_of(&mut host).await, "");
    host.write_all(b"still heard").await.unwrap();
    expect(&mut served, b"still heard").await;
}

#[tokio::test]
async fn a_refused_port_is_an_error_at_once() {
    let (listener, target) = server().await;
    drop(listener);
    let mut host = ask(&format!("{target}\n")).await;
    let answer = all_of(&mut host).await;
    let expected = format!("ERR connecting to {target}: Connection refused");
    assert!(answer.starts_with(&expected), "{answer}");
}

#[tokio::test]
async fn only_the_loopback_is_reached() {
    for header in ["10.0.0.1:80\n", "0.0.0.0:80\n", "[::ffff:127.0.0.1]:80\n", "localhost:80\n"] {
        let answer = all_of(&mut ask(header).await).await;
        assert!(answer.starts_with("ERR ") && answer.contains("loopback"), "{answer}");
    }
    let answer = all_of(&mut ask(&"1".repeat(MAX_LINE)).await).await;
    assert!(answer.starts_with("ERR the header is longer"), "{answer}");
}

#[tokio::test]
async fn a_reset_cuts_the_hosts_end() {
    let (listener, target) = server().await;
    let mut host = ask(&format!("{target}\n")).await;
    let (served, _) = listener.accept().await.unwrap();
    expect(&mut host, b"OK\n").await;
    abort(&served);
    drop(served);
    assert_eq!(all_of(&mut host).await, "");
    let error = loop {
        // Fails when the agent has dropped its end, which it does at once.
        match host.write_all(b"x").await {
            Err(error) => break error,
            Ok(()) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_host_that_hangs_up_resets_the_server() {
    let (listener, target) = server().await;
    let mut host = ask(&format!("{target}\n")).await;
    let (mut served, _) = listener.accept().await.unwrap();
    expect(&mut host, b"OK\n").await;
    drop(host);
    let error = served.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
