//! Time: what is waited for, and for how long.

use std::net::SocketAddr;

use smoltcp::time::Duration;

use super::*;
use crate::host::Errno;
use crate::host::mock::Fate;
use crate::policy::Layer;

const HOUR: Duration = Duration::from_secs(3_600);

fn port(port: u16) -> SocketAddr {
    (GUEST.ip(), port).into()
}

/// R61, group 10: an open connection lives however long nobody says anything,
/// and nothing is sent for it.
#[test]
fn an_idle_connection_lives() {
    for (from, to) in BOTH {
        let mut sim = Sim::new();
        let (seq, ack) = sim.connect(from, to);
        sim.pass(HOUR * 24 * 30);
        sim.nothing();
        sim.send(from, to, &Tcp { seq, ack, data: b"x", ..Tcp::default() });
        assert_eq!(sim.stack.host().pipes[0].borrow().written, b"x");
    }
}

/// Group 10: the other end is gone without a word, which the host's own probes
/// find out: the guest gets a reset.
#[test]
fn the_other_end_is_gone_without_a_word() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.send(GUEST, SERVER, &Tcp { seq: seq - 1, ack, ..Tcp::default() });
    assert!(sim.stack.host().pipes[0].borrow().kept_alive);
    sim.packets();
    sim.stack.host().touch(0, |pipe| pipe.failed = Some(Errno::TIMEDOUT));
    sim.run();
    assert_eq!(sim.one().flags & RST, RST);
}

/// R61: the host has ended and the guest says nothing: after an hour nobody
/// waits any more; while it says something it goes on.
#[test]
fn half_a_connection_is_waited_for() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.stack.host().touch(0, |pipe| pipe.ended = true);
    sim.run();
    let ack = sim.one().end().max(ack);
    for n in 0..4u32 {
        sim.send(GUEST, SERVER, &Tcp { seq: seq + n, ack, data: b"x", ..Tcp::default() });
        sim.pass(HOUR - Duration::from_secs(60));
        assert_eq!(sim.stack.load().connections, 1, "hour {n}");
    }
    sim.packets();
    sim.pass(Duration::from_secs(120));
    assert_eq!(sim.one().flags & RST, RST);
    assert_eq!(sim.stack.load().connections, 0);
    assert!(sim.stack.host().pipes[0].borrow().reset);
}

/// Group 12: a guest that is gone: what it was sent is sent again, less and
/// less often, and in the end given up, with a reset for the host.
#[test]
fn a_guest_that_is_gone() {
    let mut sim = Sim::new();
    sim.connect(GUEST, SERVER);
    sim.stack.host().touch(0, |pipe| pipe.incoming.extend(b"hello"));
    sim.pass(Duration::from_secs(890));
    let sent = sim.segments();
    assert!((5..100).contains(&sent.len()), "sent {} times", sent.len());
    assert!(sent.iter().all(|got| got.data == b"hello"));
    sim.pass(Duration::from_secs(20));
    assert_eq!(sim.stack.load().connections, 0);
    assert!(sim.stack.host().pipes[0].borrow().reset);
}

/// R61, group 18: with as many connections as may be, one of which nothing was
/// heard for more than two hours makes room, and no other does.
#[test]
fn who_is_silent_for_long_makes_room() {
    let mut sim = Sim::with(&Layer::Unset, 0);
    for n in 0..4_096u16 {
        sim.connect(port(1_024 + n), SERVER);
    }
    let syn = Tcp { seq: 1, flags: SYN, ..Tcp::default() };
    sim.pass(HOUR * 2);
    sim.send(port(60_000), SERVER, &syn);
    sim.nothing();
    // All but one say something.
    for n in 0..4_096u16 {
        if n != 1_000 {
            let pipe = sim.stack.host().pipes[usize::from(n)].clone();
            let ack = 1 + pipe.borrow().written.len();
            sim.send(
                port(1_024 + n),
                SERVER,
                &Tcp { seq: 1_001, data: b"x", ack: u32::try_from(ack).unwrap(), ..Tcp::default() },
            );
        }
    }
    sim.packets();
    sim.pass(Duration::from_secs(300));
    sim.send(port(60_000), SERVER, &syn);
    let answers = sim.segments();
    let said: Vec<_> = answers.iter().map(|got| (got.to.port(), got.flags & (SYN | RST))).collect();
    assert_eq!(said, [(1_024 + 1_000, RST), (60_000, SYN)]);
    assert!(sim.stack.host().pipes[1_000].borrow().reset);
    assert_eq!((sim.stack.load().connections, sim.stack.counters().flows_reaped), (4_096, 1));
    sim.pass(Duration::from_secs(2));
    sim.packets();
    sim.send(port(60_001), SERVER, &syn);
    sim.nothing();
    sim.stack.assert_consistent();
}

/// R59: an attempt that nobody answers ends after thirty seconds, and the
/// guest's next SYN is another.
#[test]
fn an_attempt_that_nobody_answers() {
    let mut sim = Sim::new();
    sim.fate(SERVER, Fate::Silent);
    sim.send(GUEST, SERVER, &Tcp { seq: 1_000, flags: SYN, ..Tcp::default() });
    sim.pass(Duration::from_secs(29));
    assert_eq!(sim.stack.load().dialing, 1);
    sim.pass(Duration::from_secs(2));
    assert_eq!(sim.stack.load().dialing, 0);
    sim.nothing();
    sim.fate(SERVER, Fate::Connected);
    sim.connect(GUEST, SERVER);
}
