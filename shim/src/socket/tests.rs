#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Barrier;
use std::thread;

use super::*;

fn socket(dir: &tempfile::TempDir) -> ShimSocket {
    ShimSocket::of_pod(&dir.path().join("s"), "/run/c.sock", "default", "web")
}

#[test]
fn the_name_is_the_one_of_containerd() {
    // printf /run/containerd/containerd.sock/default/web | sha256sum
    let socket = ShimSocket::of_pod(
        Path::new("/run/containerd/s"),
        "/run/containerd/containerd.sock",
        "default",
        "web",
    );
    assert_eq!(
        socket.address(),
        "unix:///run/containerd/s/2cde4450fa38c74f53603e01d2afd903b315a27a596f12a151414cd59897d883"
    );
    assert_eq!(ShimSocket::at(&socket.address()), socket);
}

#[test]
fn it_is_private_and_claimed_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(&dir);
    let Claim::Ours(_listener) = socket.claim().unwrap() else { panic!("nobody has it") };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket.path), 0o600);
    assert_eq!(mode(&dir.path().join("s")), 0o700);
    assert!(matches!(socket.claim().unwrap(), Claim::Served));
}

#[test]
fn a_stale_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(&dir);
    drop(socket.claim().unwrap());
    assert!(!socket.is_served());
    assert!(matches!(socket.claim().unwrap(), Claim::Ours(_)));
}

#[test]
fn of_many_at_once_one_wins_even_over_a_stale_one() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(&dir);
    drop(socket.claim().unwrap());
    let start = Barrier::new(20);
    let claims: Vec<_> = thread::scope(|scope| {
        let claim = || {
            start.wait();
            socket.claim().unwrap()
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(claim)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let ours = claims.iter().filter(|c| matches!(c, Claim::Ours(_)));
    assert_eq!(ours.count(), 1);
    assert!(socket.is_served());
}

#[test]
fn a_loser_does_not_remove_the_winners() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(&dir);
    let first = socket.claim().unwrap();
    let old = socket.identity().unwrap();
    drop(first);
    // The old file stays linked elsewhere, so that its number is not reused.
    fs::hard_link(&socket.path, dir.path().join("kept")).unwrap();
    let _second = socket.claim().unwrap();
    socket.remove(old);
    socket.remove_stale();
    assert!(socket.is_served());
    socket.remove(socket.identity().unwrap());
    assert_eq!(socket.identity(), None);
}

#[test]
fn removing_what_is_not_there_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let socket = socket(&dir);
    socket.remove_stale();
    socket.remove((0, 0));
    assert_eq!(socket.identity(), None);
}

#[test]
fn what_hinders_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let socket = ShimSocket::of_pod(&dir.path().join("file"), "a", "b", "c");
    let error = socket.claim().unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}
