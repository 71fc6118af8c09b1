//! Connections from outside.

use std::net::SocketAddr;

use smoltcp::time::Duration;

use super::*;
use crate::listeners::{ListenerState, Reported};
use crate::policy::Protocol;

const CLIENT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)), 5_000);

pub fn at(ip: &str, port: u16) -> SocketAddr {
    (ip.parse::<std::net::IpAddr>().unwrap(), port).into()
}

fn listen(sim: &mut Sim, listeners: &[SocketAddr]) {
    report(sim, Protocol::Tcp, listeners);
}

pub fn report(sim: &mut Sim, protocol: Protocol, listeners: &[SocketAddr]) {
    let reported = listeners.iter().map(|at| Reported { protocol, at: *at });
    sim.stack.report(&mut sim.port, &reported.collect::<Vec<_>>(), sim.now);
}

/// Group 22: the guest sees the client's own address, and bytes go both ways.
#[test]
fn the_guest_sees_the_client() {
    for (server, client) in
        [(at("10.0.0.2", 80), CLIENT), (at("fd00::2", 80), at("2001:db8::9", 9))]
    {
        let mut sim = Sim::new();
        listen(&mut sim, &[server]);
        assert!(sim.stack.host().dial(server, client));
        sim.run();
        let syn = sim.one();
        assert_eq!((syn.flags, syn.from, syn.to), (SYN, client, server));
        let (seq, ack) = (500, syn.seq + 1);
        let options = [2, 4, 5, 180, 1, 3, 3, 7];
        sim.send(
            server,
            client,
            &Tcp { seq, ack, flags: SYN | ACK, options: &options, ..Tcp::default() },
        );
        assert_eq!(sim.one().flags, ACK);
        sim.stack.host().touch(0, |pipe| pipe.incoming.extend(b"hello"));
        sim.run();
        let got = sim.one();
        assert_eq!(got.data, b"hello");
        let answer =
            Tcp { seq: 501, ack: got.end(), flags: ACK | FIN, data: b"bye", ..Tcp::default() };
        sim.send(server, client, &answer);
        let pipe = sim.stack.host().pipes[0].borrow();
        assert_eq!((pipe.written.as_slice(), pipe.finished), (b"bye".as_slice(), true));
    }
}

/// Group 22: what is bound is what the guest listens on, as a whole report
/// says it, on addresses of the pod and its loopback, and nowhere else.
#[test]
fn reports_are_mirrored() {
    let mut sim = Sim::new();
    let rows: &[(&[&str], &[&str])] = &[
        (&["0.0.0.0"], &["10.0.0.2", "127.0.0.1"]),
        (&["::"], &["::1", "fd00::2"]),
        (&["0.0.0.0", "::"], &["10.0.0.2", "127.0.0.1", "::1", "fd00::2"]),
        (&["127.0.0.1"], &["127.0.0.1"]),
        (&["::1"], &["::1"]),
        (&["10.0.0.2", "10.0.0.2"], &["10.0.0.2"]),
        (&["172.17.0.1", "8.8.8.8"], &[]),
        (&[], &[]),
    ];
    for (reported, expected) in rows {
        let reported: Vec<_> = reported.iter().map(|ip| at(ip, 80)).collect();
        let mut expected: Vec<_> = expected.iter().map(|ip| at(ip, 80)).collect();
        expected.sort();
        listen(&mut sim, &reported);
        assert_eq!(sim.stack.host().listening(), expected, "{reported:?}");
    }
}

/// Group 22: a report may say anything; what is bound has a limit, and what
/// cannot be bound is known.
#[test]
fn reports_are_hostile() {
    let mut sim = Sim::new();
    let all: Vec<_> = (0..=u16::MAX).map(|port| at("10.0.0.2", port)).collect();
    listen(&mut sim, &all);
    assert_eq!(sim.stack.host().listening().len(), 256);
    sim.stack.host().occupied.insert(at("10.0.0.2", 443));
    listen(&mut sim, &[at("10.0.0.2", 443), at("10.0.0.2", 80)]);
    assert_eq!(sim.stack.host().listening(), [at("10.0.0.2", 80)]);
    assert_eq!(sim.stack.failed_listeners()[0].0.at, at("10.0.0.2", 443));
}

/// What becomes of each that is reported is shown.
#[test]
fn listeners_are_shown() {
    let mut sim = Sim::new();
    sim.stack.host().occupied.insert(at("10.0.0.2", 443));
    let tcp = |ip, port| Reported { protocol: Protocol::Tcp, at: at(ip, port) };
    let udp = |ip, port| Reported { protocol: Protocol::Udp, at: at(ip, port) };
    let many: Vec<_> = (1..=250).map(|port| udp("10.0.0.2", port)).collect();
    let others = [
        tcp("10.0.0.2", 443),
        tcp("0.0.0.0", 80),
        tcp("172.17.0.1", 80),
        udp("::", 53),
        udp("127.0.0.1", 53),
        tcp("10.0.0.2", 81),
        tcp("10.0.0.2", 82),
    ];
    sim.stack.report(&mut sim.port, &[&others[..], &many].concat(), sim.now);
    let rows = sim.stack.listeners();
    let shown: Vec<_> = rows.iter().take(8).map(|row| (row.at, row.state)).collect();
    assert_eq!(
        shown,
        [
            (Some(at("10.0.0.2", 443)), ListenerState::Failed(crate::host::Errno::ADDRINUSE)),
            (Some(at("10.0.0.2", 80)), ListenerState::Bound),
            (Some(at("127.0.0.1", 80)), ListenerState::Bound),
            (None, ListenerState::Foreign),
            (Some(at("fd00::2", 53)), ListenerState::Bound),
            (None, ListenerState::Loopback),
            (Some(at("10.0.0.2", 81)), ListenerState::Bound),
            (Some(at("10.0.0.2", 82)), ListenerState::Bound),
        ]
    );
    // 256 of both are bound, or were to be; the rest is not looked at.
    let host = sim.stack.host();
    assert_eq!(host.listening().len() + host.serving().len(), 255);
    assert_eq!(rows.len(), 257);
}

/// Group 22: refused stays refused: a guest that resets, and one that says
/// nothing for five seconds, is a reset for the client.
#[test]
fn refused_stays_refused() {
    let mut sim = Sim::new();
    let server = at("10.0.0.2", 80);
    listen(&mut sim, &[server]);
    sim.stack.host().dial(server, CLIENT);
    sim.run();
    let syn = sim.one();
    sim.send(server, CLIENT, &Tcp { ack: syn.seq + 1, flags: RST | ACK, ..Tcp::default() });
    assert!(sim.stack.host().pipes[0].borrow().reset);
    sim.stack.host().dial(server, CLIENT);
    sim.pass(Duration::from_millis(5_100));
    assert!(sim.stack.host().pipes[1].borrow().reset);
    assert_eq!(sim.stack.load().connections, 0);
    listen(&mut sim, &[]);
    assert!(!sim.stack.host().dial(server, CLIENT));
}

/// Group 22: a client whose address means something else in the guest seems to
/// be the gateway.
#[test]
fn a_client_with_an_address_of_the_guest() {
    for client in [at("10.0.0.2", 9), at("127.0.0.1", 9)] {
        let mut sim = Sim::new();
        let server = at("10.0.0.2", 80);
        listen(&mut sim, &[server]);
        sim.stack.host().dial(server, client);
        sim.run();
        assert_eq!(sim.one().from, at("10.0.0.1", 9));
    }
}

/// Group 22: connections to the loopback are handed out for the agent.
#[test]
fn connections_to_the_loopback_are_handed_out() {
    let mut sim = Sim::new();
    listen(&mut sim, &[at("127.0.0.1", 80), at("::1", 80)]);
    for (local, peer) in [(at("127.0.0.1", 80), at("127.0.0.1", 9)), (at("::1", 80), at("::1", 9))]
    {
        assert!(sim.stack.host().dial(local, peer));
        sim.run();
        sim.nothing();
        let arrival = sim.stack.arrival().unwrap();
        assert_eq!((arrival.local, arrival.peer), (local, peer));
        assert!(sim.stack.carry(arrival.flow, 5, 7, sim.now));
        let row = &sim.stack.flows()[0];
        assert_eq!((row.id, row.sent, row.received), (arrival.flow, 5, 7));
        assert_eq!(row.ends, crate::env::Ends { guest: local, remote: peer });
        sim.stack.depart(&mut sim.port, arrival.flow, "finished", sim.now);
        assert!(sim.stack.flows().is_empty());
        assert!(!sim.stack.carry(arrival.flow, 5, 7, sim.now));
    }
    assert!(sim.stack.arrival().is_none());
}

/// R75, group 22: connections to the loopback are bounded, and end when the
/// policy changes like all others.
#[test]
fn connections_to_the_loopback_are_bounded_and_revoked() {
    let mut sim = Sim::new();
    let (server, peer) = (at("127.0.0.1", 80), at("127.0.0.1", 9));
    listen(&mut sim, &[server]);
    for _ in 0..1_000 {
        sim.stack.host().dial(server, peer);
        sim.run();
    }
    assert_eq!((sim.stack.load().connections, sim.stack.counters().flows_full), (512, 488));
    let taken = sim.stack.arrival().unwrap();
    let ended = sim.replace("version = 1\ndefaults = { egress = \"allow\", ingress = \"deny\" }");
    assert_eq!((ended, sim.stack.load().connections), (512, 0));
    assert!(!sim.stack.carry(taken.flow, 0, 0, sim.now), "whoever carries it is told");
    assert!(sim.stack.arrival().is_none());
}

/// Group 22: a listener closes while somebody dials: who was not accepted is
/// not there, and what takes the place is another.
#[test]
fn a_listener_closes_while_somebody_dials() {
    let mut sim = Sim::new();
    let (old, new) = (at("10.0.0.2", 80), at("10.0.0.2", 81));
    listen(&mut sim, &[old]);
    assert!(sim.stack.host().dial(old, CLIENT));
    listen(&mut sim, &[new]);
    sim.run();
    sim.nothing();
    assert!(sim.stack.host().dial(new, CLIENT));
    listen(&mut sim, &[new, old]);
    sim.run();
    assert_eq!(sim.one().to, new);
    sim.stack.assert_consistent();
}

/// Group 22: more who dial at once than a turn accepts, none forgotten.
#[test]
fn many_dial_at_once() {
    let mut sim = Sim::new();
    let server = at("10.0.0.2", 80);
    listen(&mut sim, &[server]);
    for n in 0..1_000u16 {
        sim.stack.host().dial(server, (CLIENT.ip(), 1_000 + n).into());
    }
    sim.run();
    assert_eq!(sim.segments().len(), 1_000);
    assert_eq!(sim.stack.load().connections, 1_000);
}

/// Group 22: a client that was there before, with the same address and port,
/// does not get the other's connection.
#[test]
fn a_client_that_is_there_twice() {
    let mut sim = Sim::new();
    let server = at("10.0.0.2", 80);
    listen(&mut sim, &[server]);
    for _ in 0..2 {
        sim.stack.host().dial(server, CLIENT);
        sim.run();
    }
    assert_eq!(sim.stack.load().connections, 1);
    assert!(sim.stack.host().pipes[1].borrow().reset);
    sim.stack.assert_consistent();
}

/// Group 22: a service that leads back to its guest, which calls it again for
/// each call, does not take every connection that there may be.
#[test]
fn a_circle_ends() {
    let mut sim = Sim::new();
    let server = at("10.0.0.2", 80);
    listen(&mut sim, &[server]);
    for n in 0..1_000u16 {
        sim.stack.host().dial(server, at("10.0.0.2", 20_000 + n));
        sim.run();
    }
    assert_eq!((sim.stack.load().connections, sim.stack.counters().hairpins_refused), (256, 744));
    sim.packets();
    sim.connect(GUEST, SERVER);
    sim.pass(Duration::from_secs(6));
    assert_eq!(sim.stack.load().connections, 1);
    sim.stack.assert_consistent();
}

/// R66: the policy is asked before the guest hears of anybody.
#[test]
fn the_policy_refuses_who_comes_in() {
    let policy = "version = 1\ndefaults = { egress = \"allow\", ingress = \"deny\" }";
    let mut sim = Sim::under(policy);
    let server = at("10.0.0.2", 80);
    listen(&mut sim, &[server, at("127.0.0.1", 80)]);
    sim.stack.host().dial(server, CLIENT);
    sim.stack.host().dial(at("127.0.0.1", 80), at("127.0.0.1", 9));
    sim.run();
    sim.nothing();
    assert!(sim.stack.host().pipes.iter().all(|pipe| pipe.borrow().reset));
    assert!(sim.stack.arrival().is_none());
}
