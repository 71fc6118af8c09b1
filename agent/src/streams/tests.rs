#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::ErrorKind;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::*;

/// What the agent answers to these bytes, sent one at a time.
async fn answer_to(sent: &[u8]) -> String {
    let (mut host, agent) = UnixStream::pair().unwrap();
    let table = Table::default();
    let mut text = Vec::new();
    let host_side = async {
        for byte in sent {
            // The agent may have hung up.
            let _ = host.write_all(&[*byte]).await;
        }
        let _ = host.shutdown().await;
        let _ = host.read_to_end(&mut text).await;
    };
    let (_, _) = tokio::join!(host_side, answer(agent, &table));
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn bad_headers_get_a_reason() {
    assert!(answer_to(b"x\n").await.starts_with("ERR \"x\" is not"));
    assert!(answer_to(b"\xff\n").await.starts_with("ERR the header is not text"));
    assert!(answer_to(b"c - stdout\n").await.starts_with("ERR container c does not exist"));
    assert!(answer_to(b"\n").await.starts_with("ERR "));
    let long = vec![b'a'; 3 * MAX_LINE];
    let answer = answer_to(&long).await;
    assert!(answer.is_empty() || answer.starts_with("ERR the header is longer"), "{answer}");
    assert_eq!(answer_to(b"c - std").await, "", "an unfinished header gets no answer");
}

#[tokio::test]
async fn a_header_is_read_from_any_split_and_leaves_the_rest() {
    let all = b"c e stdin\nrest\nof it";
    for split in 0..all.len() {
        let (mut host, mut agent) = UnixStream::pair().unwrap();
        host.write_all(&all[..split]).await.unwrap();
        let later = async {
            tokio::task::yield_now().await;
            host.write_all(&all[split..]).await.unwrap();
            host.shutdown().await.unwrap();
        };
        let ((), header) = tokio::join!(later, read_header(&mut agent));
        let (header, mut rest) = header.unwrap().unwrap();
        assert_eq!(header.to_string(), "c e stdin");
        agent.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"rest\nof it");
    }
}

#[tokio::test]
async fn an_end_in_mid_header_is_an_error() {
    let (mut host, mut agent) = UnixStream::pair().unwrap();
    host.write_all(b"c - st").await.unwrap();
    drop(host);
    let error = read_header(&mut agent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn closed_is_told_from_half_closed() {
    let (mut host, agent) = UnixStream::pair().unwrap();
    assert!(!agent.is_closed());
    host.shutdown().await.unwrap();
    assert!(!agent.is_closed());
    drop(host);
    assert!(agent.is_closed());
}
