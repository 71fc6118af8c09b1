#![allow(clippy::unwrap_used)]
use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

/// What a client sees of a server that does this with its connection.
fn against(serve: impl FnOnce(UnixStream) + Send + 'static) -> Result<(), ClientError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || serve(listener.accept().unwrap().0));
    let told = Client::with_timeout(&path, Duration::from_millis(300))
        .and_then(|mut client| client.tell(&Request::Counters));
    server.join().unwrap();
    told
}

fn answer(mut stream: UnixStream, reply: &Reply) {
    assert_eq!(receive::<Request>(&mut stream, 1000).unwrap(), Some(Request::Counters));
    send(&mut stream, reply).unwrap();
}

#[test]
fn answers_are_told_apart() {
    assert!(against(|stream| answer(stream, &Reply::Done)).is_ok());
    let failed = Reply::Failed { error: "no such thing".to_owned() };
    let error = against(move |stream| answer(stream, &failed)).unwrap_err();
    assert_eq!(error.to_string(), "no such thing");
    let odd = Reply::Listening { failed: Vec::new() };
    assert!(matches!(against(move |stream| answer(stream, &odd)), Err(ClientError::Odd)));
}

#[test]
fn a_process_that_was_taken_over_holds_nobody_up() {
    let silent = |serve: fn(UnixStream)| {
        assert!(matches!(against(serve), Err(ClientError::Silent { .. })));
    };
    silent(drop);
    silent(|stream| {
        // Neither answers nor hangs up until the client does.
        let _ = receive::<Request>(&mut &stream, 1000)
            .and_then(|_| receive::<Request>(&mut &stream, 1000));
    });
    silent(|mut stream| {
        use std::io::Write;
        let _ = receive::<Request>(&mut stream, 1000);
        stream.write_all(&u32::MAX.to_be_bytes()).unwrap();
    });
}

#[test]
fn without_a_sandbox_there_is_nobody_to_ask() {
    let error = Client::connect(Path::new("/nonexistent/net.sock")).unwrap_err();
    assert!(error.to_string().contains("is the sandbox running?"), "{error}");
}
