#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const EPHEMERAL: u16 = 40_000;

fn socket(cookie: u64, port: u16, connected: bool) -> Socket {
    let ip = if connected { [10, 0, 0, 2].into() } else { [0; 4].into() };
    Socket { cookie, connected, listening: Listening { udp: true, port, ip, v6_only: false } }
}

/// What of these serves, and whether all is settled.
fn look(servers: &mut Servers, sockets: &[Socket]) -> (Vec<u16>, bool) {
    let mut look = servers.look();
    look.range = DEFAULT;
    let serving = sockets.iter().filter_map(|socket| look.serving(socket));
    let ports = serving.map(|listening| {
        assert!(listening.ip.is_unspecified());
        listening.port
    });
    (ports.collect(), look.done())
}

#[test]
fn a_named_port_serves_and_one_of_the_kernels_choice_does_not() {
    let mut servers = Servers::default();
    let sockets = [socket(1, 53, false), socket(2, EPHEMERAL, false), socket(3, 61_000, false)];
    assert_eq!(look(&mut servers, &sockets), (vec![53, 61_000], true));
    servers.name(2);
    for _ in 0..2 {
        assert_eq!(look(&mut servers, &sockets), (vec![53, EPHEMERAL, 61_000], true));
    }
}

#[test]
fn a_server_with_a_client_of_its_own_goes_on_and_a_client_does_not_begin() {
    let mut servers = Servers::default();
    assert_eq!(look(&mut servers, &[socket(1, 53, false)]).0, [53]);
    for _ in 0..2 {
        let sockets = [socket(1, 53, true), socket(2, 54, true)];
        assert_eq!(look(&mut servers, &sockets).0, [53]);
    }
    // Numbers are not used twice; what is gone is forgotten.
    assert!(look(&mut servers, &[]).0.is_empty());
    assert!(servers.serving.is_empty() && servers.named.is_empty());
}

#[test]
fn a_port_that_is_not_written_down_yet_is_looked_for_again() {
    let mut servers = Servers::default();
    assert_eq!(look(&mut servers, &[socket(1, 0, false)]), (vec![], true));
    servers.name(1);
    assert_eq!(look(&mut servers, &[socket(1, 0, false)]), (vec![], false));
    assert_eq!(look(&mut servers, &[socket(1, EPHEMERAL, false)]), (vec![EPHEMERAL], true));
}

#[test]
fn the_kernels_range_is_read() {
    assert_eq!(range("32768\t60999\n"), Some(DEFAULT));
    for text in ["", "1", "1 70000", "a b"] {
        assert_eq!(range(text), None, "{text}");
    }
}
