#![allow(clippy::unwrap_used)]
use super::super::scan::{addresses, scan};
use super::*;

#[test]
fn what_is_no_namespace_is_refused() {
    let error = Namespace::open(Path::new("/nonexistent")).unwrap_err().to_string();
    assert!(error.contains("cannot open the network namespace /nonexistent"), "{error}");
    for path in ["/dev/null", "/etc/hostname", "/proc/self/ns/uts", "/"] {
        let error = Namespace::open(Path::new(path)).unwrap_err();
        assert!(matches!(error, NamespaceError::NotOne { .. }), "{path}: {error}");
    }
}

#[test]
fn the_hosts_namespace_is_known_by_any_path() {
    assert!(Namespace::host().unwrap().is_host().unwrap());
    let path = format!("/proc/{}/ns/net", std::process::id());
    let other = File::open(path).map(|file| Namespace { file: Arc::new(file) }).unwrap();
    assert!(other.is_host().unwrap());
}

#[test]
#[ignore = "needs root"]
fn a_new_namespace_has_loopback_alone() {
    let namespace = Namespace::make().unwrap();
    assert!(!namespace.is_host().unwrap());
    let scanned = scan(&namespace).unwrap();
    assert!(scanned.links.is_empty() && scanned.interface().is_none());
    assert!(addresses(&namespace).unwrap().is_empty());
    // Up: what is bound there can be reached.
    let reached = namespace.inside(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        std::net::TcpStream::connect(listener.local_addr()?)
    });
    reached.unwrap().unwrap();
    // The thread that asked is where it was.
    assert!(Namespace::host().unwrap().is_host().unwrap());
}
