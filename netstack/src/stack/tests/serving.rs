//! UDP ports that the guest serves.

use std::net::SocketAddr;

use smoltcp::time::Duration;

use super::inbound::{at, report};
use super::*;
use crate::host::Errno;
use crate::policy::Protocol;

const CLIENTS: [(&str, &str); 2] = [("10.0.0.2", "198.51.100.7"), ("fd00::2", "2001:db8::9")];

fn serve(sim: &mut Sim, servers: &[SocketAddr]) {
    report(sim, Protocol::Udp, servers);
}

/// Somebody writes to the `socket`-th socket there was.
fn write(sim: &mut Sim, socket: usize, from: SocketAddr, text: &str) {
    sim.stack.host().deliver(socket, |socket| {
        socket.incoming.push_back((from, text.as_bytes().to_vec()));
    });
    sim.run();
}

/// Whom the guest has its only datagram from, whom it is for, and its text.
fn got(sim: &mut Sim) -> (SocketAddr, SocketAddr, String) {
    let packets = sim.packets();
    assert_eq!(packets.len(), 1);
    let ip = &packets[0].0;
    let packet = crate::packet::Packet::parse(ip).unwrap();
    let udp = packet.payload(ip);
    let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    let (from, to) = ((packet.source, port(0)).into(), (packet.destination, port(2)).into());
    (from, to, String::from_utf8(udp[8..].to_vec()).unwrap())
}

/// What went out of the `socket`-th socket last.
fn sent(sim: &mut Sim, socket: usize) -> (SocketAddr, String) {
    let socket = sim.stack.host().messages[socket].borrow();
    let (to, data, _) = socket.sent.last().unwrap();
    (*to, String::from_utf8(data.clone()).unwrap())
}

/// Groups 19 and 22: the guest sees the client's own address, and its answer
/// goes out of the socket that was written to, whatever egress says.
#[test]
fn the_guest_sees_the_client() {
    for (server, client) in CLIENTS {
        let (server, client) = (at(server, 53), at(client, 5_000));
        let mut sim =
            Sim::under("version = 1\ndefaults = { egress = \"deny\", ingress = \"allow\" }");
        serve(&mut sim, &[server]);
        assert_eq!(sim.stack.host().serving(), [server]);
        write(&mut sim, 0, client, "ask");
        assert_eq!(got(&mut sim), (client, server, "ask".into()));
        sim.datagram(server, client, b"answer");
        sim.nothing();
        assert_eq!(sent(&mut sim, 0), (client, "answer".into()));
        assert_eq!(sim.stack.host().messages.len(), 1);
        let flows = sim.stack.flows();
        assert_eq!((flows.len(), flows[0].ends.remote, flows[0].sent), (1, client, 6));
    }
}

/// Group 22: UDP is bound at the pod's addresses alone.
#[test]
fn reports_are_mirrored() {
    let mut sim = Sim::new();
    let rows: &[(&[&str], &[&str])] = &[
        (&["0.0.0.0"], &["10.0.0.2"]),
        (&["::"], &["fd00::2"]),
        (&["0.0.0.0", "::"], &["10.0.0.2", "fd00::2"]),
        (&["127.0.0.1", "::1", "172.17.0.1"], &[]),
        (&["10.0.0.2", "0.0.0.0"], &["10.0.0.2"]),
        (&[], &[]),
    ];
    for (reported, expected) in rows {
        let all = |of: &[&str]| of.iter().map(|ip| at(ip, 53)).collect::<Vec<_>>();
        serve(&mut sim, &all(reported));
        assert_eq!(sim.stack.host().serving(), all(expected), "{reported:?}");
        assert!(sim.stack.host().listening().is_empty());
    }
}

/// Group 22: the bound is of both, and what cannot be bound is known.
#[test]
fn reports_are_hostile() {
    let mut sim = Sim::new();
    let all: Vec<_> = (0..=u16::MAX).map(|port| at("10.0.0.2", port)).collect();
    serve(&mut sim, &all);
    assert_eq!(sim.stack.host().serving().len(), 256);
    sim.stack.host().occupied.insert(at("10.0.0.2", 443));
    serve(&mut sim, &[at("10.0.0.2", 443), at("10.0.0.2", 80)]);
    assert_eq!(sim.stack.host().serving(), [at("10.0.0.2", 80)]);
    assert_eq!(sim.stack.failed_listeners()[0].0.at, at("10.0.0.2", 443));
    assert_eq!(sim.stack.counters().listeners_failed, 1);
}

/// R66: the policy decides who comes in; refusals are counted and audited.
#[test]
fn the_policy_decides_who_comes_in() {
    let policy = "version = 1\ndefaults = { egress = \"allow\", ingress = \"deny\" }\n\
        [[rule]]\nid = \"dns\"\ndir = \"ingress\"\naction = \"allow\"\nproto = [\"udp\"]\n\
        ports = [53]\ncidr = [\"198.51.100.0/24\"]\n";
    let mut sim = Sim::watched(policy, &[]);
    let server = at("10.0.0.2", 53);
    serve(&mut sim, &[server]);
    write(&mut sim, 0, at("192.0.2.9", 9), "psst");
    sim.nothing();
    assert_eq!((sim.stack.counters().denied, sim.stack.counters().strangers), (1, 1));
    write(&mut sim, 0, at("198.51.100.7", 9), "ask");
    assert_eq!(got(&mut sim).2, "ask");
    let audit = sim.audit();
    let found = |verdict: &str, from: &str| {
        audit.iter().any(|line| line["verdict"] == verdict && line["src"] == from)
    };
    assert!(found("deny", "192.0.2.9:9"), "{audit:?}");
    assert!(found("allow", "198.51.100.7:9"), "{audit:?}");
}

/// Group 22: a client whose address means something else in the guest seems to
/// be the gateway, and has its answer all the same; the gateway itself, with
/// the same port, is another.
#[test]
fn a_client_with_an_address_of_the_guest() {
    let rows = [
        ("10.0.0.2", "10.0.0.2", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.2", "127.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("fd00::2", "fd00::2", "fe80::1", "fd00::2"),
        // A socket for every address answers so.
        ("fd00::2", "fd00::2", "fe80::1", "fe80::ff:fe00:2"),
    ];
    for (server, client, seen, answers) in rows {
        let (server, client, seen) = (at(server, 53), at(client, 9), at(seen, 9));
        let mut sim = Sim::new();
        serve(&mut sim, &[server]);
        write(&mut sim, 0, client, "ask");
        assert_eq!(got(&mut sim), (seen, server, "ask".into()));
        sim.datagram(at(answers, 53), seen, b"answer");
        sim.nothing();
        assert_eq!(sent(&mut sim, 0), (client, "answer".into()), "{answers}");
        assert_eq!(sim.stack.host().messages.len(), 1);
        if server.is_ipv4() {
            write(&mut sim, 0, seen, "me too");
            sim.nothing();
            assert_eq!(sim.stack.counters().strangers, 1);
        }
    }
}

/// The gateway's own datagrams are like anybody's.
#[test]
fn the_gateway_is_a_client() {
    let (server, gateway) = (at("10.0.0.2", 53), at("10.0.0.1", 9));
    let mut sim = Sim::new();
    serve(&mut sim, &[server]);
    write(&mut sim, 0, gateway, "ask");
    assert_eq!(got(&mut sim), (gateway, server, "ask".into()));
    sim.datagram(server, gateway, b"answer");
    assert_eq!(sent(&mut sim, 0), (gateway, "answer".into()));
}

/// Group 19: a port is served as long as the guest says so; clients are
/// forgotten when idle, soon if they got no answer.
#[test]
fn idle_clients_are_forgotten_and_the_port_stays() {
    let (server, client) = (at("10.0.0.2", 53), at("198.51.100.7", 9));
    for (answered, seconds) in [(false, 120), (true, 180)] {
        let mut sim = Sim::new();
        serve(&mut sim, &[server]);
        write(&mut sim, 0, client, "ask");
        got(&mut sim);
        if answered {
            sim.datagram(server, client, b"answer");
        }
        sim.pass(Duration::from_secs(seconds - 1));
        assert_eq!(sim.stack.flows().len(), 1, "{answered}");
        sim.pass(Duration::from_secs(2));
        assert_eq!(sim.stack.flows().len(), 0, "{answered}");
        sim.pass(Duration::from_secs(1_000));
        assert_eq!(sim.stack.host().serving(), [server]);
        serve(&mut sim, &[]);
        assert!(sim.stack.host().messages[0].borrow().closed);
        assert_eq!(sim.stack.load().ports, 0);
    }
}

/// Group 18, 19: clients of a port are bounded, and ports that are used for
/// something else do not close one that is served.
#[test]
fn clients_are_bounded() {
    let mut sim = Sim::new();
    let server = at("10.0.0.2", 53);
    serve(&mut sim, &[server]);
    for n in 0..3_000u16 {
        sim.now += Duration::from_millis(1);
        write(&mut sim, 0, at("198.51.100.7", 1 + n), "x");
    }
    assert_eq!(sim.stack.flows().len(), 1_024);
    for n in 0..2_000u16 {
        sim.now += Duration::from_millis(1);
        sim.datagram(SocketAddr::new(GUEST.ip(), 1_000 + n), SERVER, b"x");
    }
    assert_eq!(sim.stack.load().ports, 1_024);
    assert_eq!(sim.stack.host().serving(), [server]);
}

/// A server that writes before the report has come keeps its socket and whom
/// it talks with; not if that has another port, and the port is told as taken.
#[test]
fn a_server_that_speaks_first() {
    let (server, client) = (at("10.0.0.2", 53), at("198.51.100.7", 9));
    let mut sim = Sim::new();
    sim.datagram(server, SERVER, b"hello");
    serve(&mut sim, &[server]);
    assert_eq!((sim.stack.host().messages.len(), sim.stack.failed_listeners().len()), (1, 0));
    write(&mut sim, 0, client, "ask");
    assert_eq!(got(&mut sim), (client, server, "ask".into()));
    sim.pass(Duration::from_secs(1_000));
    assert_eq!(sim.stack.load().ports, 1);
    serve(&mut sim, &[]);
    assert_eq!(sim.stack.load().ports, 0);

    sim.stack.host().occupied.insert(server);
    sim.datagram(server, SERVER, b"hello");
    serve(&mut sim, &[server]);
    let failed: Vec<_> = sim.stack.failed_listeners().to_vec();
    assert_eq!((failed[0].0.at, failed[0].1), (server, Errno::ADDRINUSE));
    assert_eq!(sim.stack.load().ports, 1, "and what it has stays");
}

/// Another policy ends what it denies, and the port goes on being served.
#[test]
fn a_policy_that_is_checked_anew() {
    let (server, client) = (at("10.0.0.2", 53), at("198.51.100.7", 9));
    let mut sim = Sim::new();
    serve(&mut sim, &[server]);
    write(&mut sim, 0, client, "ask");
    got(&mut sim);
    let deny = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }";
    assert_eq!(sim.replace(deny), 1);
    write(&mut sim, 0, client, "again");
    sim.nothing();
    assert_eq!(sim.stack.host().serving(), [server]);
}
