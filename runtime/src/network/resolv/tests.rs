#![allow(clippy::unwrap_used)]
use std::fs;

use super::*;

fn servers(text: &str) -> Vec<String> {
    Resolv::parse(text).servers.iter().map(ToString::to_string).collect()
}

#[test]
fn servers_are_read() {
    let text = "# nameserver 9.9.9.9\nsearch a.b\nnameserver 10.96.0.10\n nameserver\tfe80::1%eth0 x\n\
                nameserver nonsense\nnameservers 1.1.1.1\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n";
    assert_eq!(servers(text), ["10.96.0.10", "fe80::1", "8.8.8.8"]);
}

fn host(own: &str, resolved: Option<&str>) -> Resolv {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, own).unwrap();
    if let Some(text) = resolved {
        fs::write(&b, text).unwrap();
    }
    Resolv::of(&a, &b)
}

#[test]
fn a_stub_on_the_loopback_is_replaced_by_what_is_behind_it() {
    let stub = "nameserver 127.0.0.53\noptions edns0\n";
    let behind = "nameserver 192.168.1.1\nsearch lan\n";
    assert_eq!(host(stub, Some(behind)), Resolv::parse(behind));
    // Without it there is no server that a guest could reach.
    assert_eq!(host(stub, None), Resolv::parse("options edns0\n"));
    let mixed = "nameserver 127.0.0.1\nnameserver 10.0.0.1\n";
    assert_eq!(host(mixed, Some(behind)).text, "nameserver 10.0.0.1\n");
}

#[test]
fn what_is_no_file_is_refused() {
    assert!(Resolv::read(Path::new("/dev/zero")).is_err());
    assert!(Resolv::read(Path::new("/")).is_err());
    assert!(Resolv::read(Path::new("/nonexistent")).is_err());
}
