#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener};

use proptest::prelude::*;

use super::*;

fn message(family: i32, state: u8, port: u16, ip: &[u8], attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; MESSAGE];
    (bytes[0], bytes[1]) = (family as u8, state);
    bytes[4..6].copy_from_slice(&port.to_be_bytes());
    bytes[8..8 + ip.len()].copy_from_slice(ip);
    bytes[44..52].copy_from_slice(&7_u64.to_ne_bytes());
    bytes.extend(attributes);
    bytes
}

/// Another attribute, then SKV6ONLY with this value.
fn v6_only(value: u8) -> Vec<u8> {
    let mut bytes = vec![5, 0, 8, 0, 1, 0, 0, 0];
    bytes.extend([5, 0, SKV6ONLY as u8, 0, value, 0, 0, 0]);
    bytes
}

fn listening(ip: &str, port: u16, v6_only: bool) -> Listening {
    Listening { udp: false, port, ip: ip.parse().unwrap(), v6_only }
}

#[test]
fn a_socket_is_read() {
    let v4 = parse(&message(libc::AF_INET, LISTEN, 80, &[127, 0, 0, 1], &[]), false).unwrap();
    let expected = listening("127.0.0.1", 80, false);
    assert_eq!(v4, Socket { cookie: 7, connected: false, listening: expected });
    for (state, connected) in [(ESTABLISHED, true), (CLOSE, false)] {
        let bytes = message(libc::AF_INET, state, 80, &[127, 0, 0, 1], &[]);
        let listening = Listening { udp: true, ..expected };
        assert_eq!(parse(&bytes, true), Some(Socket { cookie: 7, connected, listening }));
        assert_eq!(parse(&bytes, false), None);
    }
    for (value, only) in [(0, false), (1, true)] {
        let bytes = message(libc::AF_INET6, LISTEN, 65535, &[0; 16], &v6_only(value));
        let v6 = parse(&bytes, false).unwrap();
        assert_eq!(v6.listening, listening("::", 65535, only));
    }
}

#[test]
fn an_ipv4_address_of_an_ipv6_socket_is_an_ipv4_address() {
    let mapped: std::net::Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
    let bytes = message(libc::AF_INET6, LISTEN, 80, &mapped.octets(), &v6_only(0));
    assert_eq!(parse(&bytes, false).unwrap().listening, listening("10.1.2.3", 80, false));
}

#[test]
fn what_does_not_listen_is_none() {
    assert_eq!(parse(&message(libc::AF_INET, 1, 80, &[10, 0, 0, 1], &[]), false), None);
    assert_eq!(parse(&message(libc::AF_UNIX, LISTEN, 80, &[], &[]), false), None);
    let whole = message(libc::AF_INET, LISTEN, 80, &[10, 0, 0, 1], &[]);
    for length in 0..whole.len() {
        assert_eq!(parse(&whole[..length], false), None, "{length}");
    }
}

#[test]
fn the_kernel_lists_what_listens() {
    let hosts = ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"];
    // A machine may be without IPv6.
    let listeners: Vec<TcpListener> =
        hosts.iter().filter_map(|host| TcpListener::bind(host).ok()).collect();
    assert!(listeners.len() >= 2);
    let mut diag = Diag::open().unwrap();
    let mut found = Vec::new();
    diag.each(&mut |socket| found.push(socket)).unwrap();
    // An IPv6 socket that is bound to one address takes nothing else.
    let only = |addr: SocketAddr| addr.is_ipv6() && !addr.ip().is_unspecified();
    let at = |addr: SocketAddr| listening(&addr.ip().to_string(), addr.port(), only(addr));
    let addresses: Vec<_> = listeners.iter().map(|l| at(l.local_addr().unwrap())).collect();
    for address in &addresses {
        assert!(found.iter().any(|socket| socket.listening == *address), "{address:?}");
    }
    drop(listeners);
    found.clear();
    diag.each(&mut |socket| found.push(socket)).unwrap();
    assert!(!found.iter().any(|socket| addresses.contains(&socket.listening)));
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        for (udp, of) in [(false, LISTEN), (true, CLOSE)] {
            if let Some(state) = bytes.get_mut(1) {
                *state = of;
            }
            let _ = parse(&bytes, udp);
        }
    }
}
