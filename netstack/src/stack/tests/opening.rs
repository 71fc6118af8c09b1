//! How connections begin, and how they do not.

use std::net::SocketAddr;

use smoltcp::time::Duration;
use smoltcp::wire::IpProtocol;

use super::*;
use crate::emit::{ip_header, write_ip};
use crate::host::Errno;
use crate::host::mock::Fate;
use crate::port::Offload;

fn syn<'a>() -> Tcp<'a> {
    Tcp { seq: 1_000, flags: SYN, ..Tcp::default() }
}

/// R59, group 1: the guest is connected only when the host is.
#[test]
fn a_syn_is_answered_when_the_host_is_connected() {
    for (from, to) in [(GUEST, SERVER), (GUEST6, SERVER6)] {
        let mut sim = Sim::new();
        sim.fate(to, Fate::Silent);
        sim.send(from, to, &syn());
        sim.pass(Duration::from_secs(5));
        sim.nothing();
        sim.stack.host().touch(0, |_| ());
        sim.run();
        let answer = sim.one();
        assert_eq!((answer.flags, answer.ack, answer.from), (SYN | ACK, 1_001, to));
    }
}

/// Group 1: each way to fail is told as runc would have it.
#[test]
fn failures_are_told_faithfully() {
    let rows = [
        (Errno::HOSTUNREACH, (3, 1), (1, 3)),
        (Errno::NETUNREACH, (3, 0), (1, 0)),
        (Errno::ACCESS, (3, 13), (1, 1)),
        (Errno::PERM, (3, 13), (1, 1)),
        // No address of that family, or no port left.
        (Errno::ADDRNOTAVAIL, (3, 0), (1, 0)),
        (Errno::NETDOWN, (3, 0), (1, 0)),
        (Errno::HOSTDOWN, (3, 1), (1, 3)),
    ];
    for (error, v4, v6) in rows {
        for (from, to, expected) in [(GUEST, SERVER, v4), (GUEST6, SERVER6, v6)] {
            for fate in [Fate::Failed(error), Fate::Impossible(error)] {
                let mut sim = Sim::new();
                sim.fate(to, fate);
                sim.send(from, to, &syn());
                assert_eq!(icmp(&mut sim), expected, "{fate:?}");
                assert_eq!(sim.stack.load().connections, 0);
            }
        }
    }
}

/// Group 1: refused is refused, within the turn; what takes too long or what
/// the host has no room for is silence, for the guest has its own timer.
#[test]
fn refusals_and_silence() {
    for (from, to) in [(GUEST, SERVER), (GUEST6, SERVER6)] {
        let mut sim = Sim::new();
        for error in [Errno::CONNREFUSED, Errno::CONNRESET] {
            sim.fate(to, Fate::Failed(error));
            sim.send(from, to, &syn());
            let answer = sim.one();
            assert_eq!((answer.flags, answer.seq, answer.ack), (RST | ACK, 0, 1_001));
        }
        for error in [Errno::TIMEDOUT, Errno::MFILE, Errno::NOBUFS] {
            sim.fate(to, Fate::Failed(error));
            sim.send(from, to, &syn());
            sim.nothing();
        }
        assert_eq!(sim.stack.load().connections, 0);
        sim.fate(to, Fate::Connected);
        sim.connect(from, to);
    }
}

/// Group 2: while the host connects, a SYN that is sent again changes nothing,
/// and one with another number takes its place.
#[test]
fn a_syn_sent_again_while_dialling() {
    let mut sim = Sim::new();
    sim.fate(SERVER, Fate::Silent);
    sim.send(GUEST, SERVER, &syn());
    sim.send(GUEST, SERVER, &syn());
    sim.send(GUEST, SERVER, &Tcp { seq: 5_000, flags: SYN, ..Tcp::default() });
    assert_eq!(sim.stack.load().dialing, 1);
    sim.stack.host().touch(0, |_| ());
    sim.run();
    assert_eq!(sim.one().ack, 5_001);
}

/// Group 3: a reset while the host connects ends the attempt, and nothing of
/// it is left.
#[test]
fn a_reset_while_dialling() {
    let mut sim = Sim::new();
    sim.fate(SERVER, Fate::Silent);
    sim.send(GUEST, SERVER, &syn());
    sim.send(GUEST, SERVER, &Tcp { seq: 1_001, flags: RST, ..Tcp::default() });
    let load = sim.stack.load();
    assert_eq!((load.connections, load.dialing), (0, 0));
    let pipe = sim.stack.host().pipes[0].borrow();
    assert!(pipe.reset && pipe.closed);
}

/// Group 3, the trap of SYN-RECEIVED: after a reset there smoltcp's socket
/// listens again; no other connection may get it, and the host's is reset.
#[test]
fn a_reset_before_the_handshake_is_over() {
    let mut sim = Sim::new();
    sim.send(GUEST, SERVER, &syn());
    assert_eq!(sim.one().flags, SYN | ACK);
    sim.send(GUEST, SERVER, &Tcp { seq: 1_001, flags: RST, ..Tcp::default() });
    assert_eq!(sim.stack.load().connections, 0);
    assert!(sim.stack.host().pipes[0].borrow().reset);
    sim.connect(GUEST, SERVER);
    assert_eq!(sim.stack.host().pipes.len(), 2);
}

/// Group 2: of all combinations of flags only a SYN opens anything, and what
/// belongs to no connection is answered with a reset unless it is one.
#[test]
fn all_flags_without_a_connection() {
    for flags in 0..64u8 {
        let mut sim = Sim::new();
        sim.send(GUEST, SERVER, &Tcp { seq: 1_000, ack: 7, flags, ..Tcp::default() });
        let answers = sim.segments();
        if flags & (SYN | ACK | RST | FIN) == SYN {
            assert_eq!(answers[0].flags, SYN | ACK, "{flags:#b}");
        } else if flags & RST != 0 {
            assert!(answers.is_empty(), "{flags:#b}");
        } else {
            assert_eq!(answers[0].flags & RST, RST, "{flags:#b}");
            assert_eq!(sim.stack.load().connections, 0, "{flags:#b}");
        }
    }
}

/// Group 2: in an open connection, no combination of flags with any number
/// breaks the stack or makes more than one answer.
#[test]
fn all_flags_in_a_connection() {
    for flags in 0..64u8 {
        for shift in [0u32, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            let mut sim = Sim::new();
            let (seq, ack) = sim.connect(GUEST, SERVER);
            let seq = seq.wrapping_add(shift);
            for ack in [ack, ack.wrapping_add(1), ack.wrapping_add(0x7fff_ffff)] {
                sim.send(GUEST, SERVER, &Tcp { seq, ack, flags, data: b"data", ..Tcp::default() });
            }
            assert!(sim.segments().len() <= 4, "{flags:#b} {shift}");
        }
    }
}

/// Group 2: data on a SYN is not lost; the guest sends it again.
#[test]
fn data_on_a_syn() {
    let mut sim = Sim::new();
    sim.send(GUEST, SERVER, &Tcp { seq: 1_000, flags: SYN, data: b"early", ..Tcp::default() });
    let answer = sim.one();
    assert_eq!((answer.flags, answer.ack), (SYN | ACK, 1_001));
    let ack = answer.seq + 1;
    sim.send(GUEST, SERVER, &Tcp { seq: 1_001, ack, data: b"early", ..Tcp::default() });
    assert_eq!(sim.stack.host().pipes[0].borrow().written, b"early");
}

/// Group 1: who gets no answer to its SYN-ACK does not hold a socket for ever.
#[test]
fn a_handshake_that_is_not_finished() {
    let mut sim = Sim::new();
    sim.send(GUEST, SERVER, &syn());
    sim.pass(Duration::from_secs(31));
    assert_eq!(sim.stack.load().connections, 0);
    assert!(sim.stack.host().pipes[0].borrow().reset);
}

/// What goes to many is no connection: it is denied, and nobody is told (RFC
/// 9293, MUST-57; RFC 1122, 3.2.2).
#[test]
fn nothing_answers_what_goes_to_many() {
    let many4 = ["224.0.0.1", "255.255.255.255"].map(|ip| (GUEST, ip.parse().unwrap()));
    let many = many4.into_iter().chain([(GUEST6, "ff02::1".parse().unwrap())]);
    for (from, ip) in many {
        let to = SocketAddr::new(ip, 80);
        let mut sim = Sim::new();
        for flags in [SYN, ACK, ACK | FIN] {
            sim.send(from, to, &Tcp { seq: 1_000, flags, ..Tcp::default() });
            sim.nothing();
        }
        assert_eq!(sim.stack.counters().denied, 1);
        let kind = if from.is_ipv4() { 8 } else { 128 };
        let ping = crate::icmp::message(from.ip(), ip, kind, 0, [0, 1, 0, 1], b"data");
        sim.packet(&ping, Offload::default());
        let mut other = vec![0; ip_header(from.ip()) + 8];
        write_ip(&mut other, from.ip(), ip, IpProtocol::from(132), 8);
        sim.packet(&other, Offload::default());
        sim.datagram(from, to, b"data");
        sim.nothing();
    }
}

/// R66: what the policy refuses is refused at once, or in silence, as it says.
#[test]
fn the_policy_refuses() {
    let policy = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }";
    for (from, to) in [(GUEST, SERVER), (GUEST6, SERVER6)] {
        let mut sim = Sim::under(policy);
        sim.send(from, to, &syn());
        assert_eq!(sim.one().flags, RST | ACK);
        let drop = policy.replace("ingress", "deny_mode = \"drop\", ingress");
        let mut sim = Sim::under(&drop);
        sim.send(from, to, &syn());
        sim.nothing();
        assert_eq!(sim.stack.counters().denied, 1);
        assert!(sim.stack.host().pipes.is_empty());
    }
}
