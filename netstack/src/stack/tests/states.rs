//! Every segment in every state.

use smoltcp::time::Duration;

use super::*;
use crate::host::Errno;
use crate::host::mock::Fate;

/// Brings a connection into a state; answers the guest's next number and what
/// it has acknowledged.
type Arrange = fn(&mut Sim) -> (u32, u32);

fn dialing(sim: &mut Sim) -> (u32, u32) {
    sim.fate(SERVER, Fate::Silent);
    sim.send(GUEST, SERVER, &Tcp { seq: 1_000, flags: SYN, ..Tcp::default() });
    (1_001, 0)
}

fn syn_received(sim: &mut Sim) -> (u32, u32) {
    sim.send(GUEST, SERVER, &Tcp { seq: 1_000, flags: SYN, ..Tcp::default() });
    (1_001, sim.one().seq.wrapping_add(1))
}

fn established(sim: &mut Sim) -> (u32, u32) {
    sim.connect(GUEST, SERVER)
}

fn close_wait(sim: &mut Sim) -> (u32, u32) {
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.send(GUEST, SERVER, &Tcp { seq, ack, flags: ACK | FIN, ..Tcp::default() });
    sim.packets();
    (seq + 1, ack)
}

fn fin_wait_1(sim: &mut Sim) -> (u32, u32) {
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.stack.host().touch(0, |pipe| pipe.ended = true);
    sim.run();
    sim.packets();
    (seq, ack)
}

fn fin_wait_2(sim: &mut Sim) -> (u32, u32) {
    let (seq, ack) = fin_wait_1(sim);
    sim.send(GUEST, SERVER, &Tcp { seq, ack: ack + 1, ..Tcp::default() });
    sim.packets();
    (seq, ack + 1)
}

fn last_ack(sim: &mut Sim) -> (u32, u32) {
    let (seq, ack) = close_wait(sim);
    sim.stack.host().touch(0, |pipe| pipe.ended = true);
    sim.run();
    sim.packets();
    (seq, ack)
}

fn over(sim: &mut Sim) -> (u32, u32) {
    let (seq, ack) = last_ack(sim);
    sim.send(GUEST, SERVER, &Tcp { seq, ack: ack + 1, ..Tcp::default() });
    sim.packets();
    assert_eq!(sim.stack.load().connections, 0);
    (seq, ack + 1)
}

const STATES: [Arrange; 8] =
    [dialing, syn_received, established, close_wait, fin_wait_1, fin_wait_2, last_ack, over];

/// Group 2: in every state all 64 combinations of flags, with and without
/// data, at and around the right numbers: the answers are few, the tables stay
/// whole, the host hears of nothing that did not arrive, and a new connection
/// can be made.
#[test]
fn every_combination_of_flags_in_every_state() {
    for (state, arrange) in STATES.iter().enumerate() {
        for flags in 0..64u8 {
            for (shift, data) in [(0u32, &b""[..]), (0, b"data"), (u32::MAX, b""), (1 << 31, b"x")]
            {
                let mut sim = Sim::new();
                let (seq, ack) = arrange(&mut sim);
                let seq = seq.wrapping_add(shift);
                sim.send(GUEST, SERVER, &Tcp { seq, ack, flags, data, ..Tcp::default() });
                let answers = sim.segments();
                let case = format!("state {state}, flags {flags:#b}, shift {shift:#x}");
                assert!(answers.len() <= 2, "{case}: {answers:?}");
                sim.stack.assert_consistent();
                if let Some(pipe) = sim.stack.host().pipes.first() {
                    let written = &pipe.borrow().written;
                    assert!(written.is_empty() || written == data, "{case}: {written:?}");
                }
                let other = (GUEST.ip(), 999).into();
                sim.fate(SERVER, Fate::Connected);
                sim.connect(other, SERVER);
            }
        }
    }
}

/// Group 3, 5: a reset of the guest ends a connection in every state that has
/// a socket of the host, and that is reset too.
#[test]
fn a_reset_in_every_state() {
    for (state, arrange) in STATES[..7].iter().enumerate() {
        let mut sim = Sim::new();
        let (seq, ack) = arrange(&mut sim);
        sim.send(GUEST, SERVER, &Tcp { seq, ack, flags: RST | ACK, ..Tcp::default() });
        sim.nothing();
        assert_eq!(sim.stack.load().connections, 0, "state {state}");
        let pipe = sim.stack.host().pipes[0].borrow();
        assert!(pipe.reset && pipe.closed, "state {state}");
    }
}

/// Group 5: the host's end and its reset after that: the guest hears of both,
/// also when it has nothing to write.
#[test]
fn the_host_resets_after_its_end() {
    for arrange in [fin_wait_1, fin_wait_2] {
        let mut sim = Sim::new();
        arrange(&mut sim);
        sim.stack.host().touch(0, |pipe| pipe.connecting = Err(Errno::CONNRESET));
        sim.run();
        assert_eq!(sim.one().flags & RST, RST);
        assert_eq!(sim.stack.load().connections, 0);
    }
}

/// Group 6: a guest that ends, or resets, at once after it has connected.
#[test]
fn the_guest_closes_at_once() {
    for (from, to) in BOTH {
        for (flags, data) in [(ACK | FIN, &b""[..]), (ACK | FIN, b"bye"), (RST | ACK, b"")] {
            let mut sim = Sim::new();
            let (seq, ack) = sim.connect(from, to);
            sim.send(from, to, &Tcp { seq, ack, flags, data, ..Tcp::default() });
            let pipe = sim.stack.host().pipes[0].clone();
            assert_eq!(pipe.borrow().written, data);
            assert_eq!(pipe.borrow().finished, flags & FIN != 0);
            assert_eq!(pipe.borrow().reset, flags & RST != 0);
        }
        // With the acknowledgement of the handshake itself.
        let mut sim = Sim::new();
        sim.send(from, to, &Tcp { seq: 1_000, flags: SYN, ..Tcp::default() });
        let ack = sim.one().seq.wrapping_add(1);
        let fin = Tcp { seq: 1_001, ack, flags: ACK | FIN, data: b"bye", ..Tcp::default() };
        sim.send(from, to, &fin);
        let pipe = sim.stack.host().pipes[0].borrow();
        assert_eq!((pipe.written.as_slice(), pipe.finished), (b"bye".as_slice(), true));
    }
}

/// Group 11: a connection that is over and comes again from the same port: an
/// old number is challenged, a newer one opens it, and after ten seconds, or a
/// reset that answers the challenge, any does.
#[test]
fn a_connection_from_the_same_port() {
    let syn = |seq| Tcp { seq, flags: SYN, ..Tcp::default() };
    let mut sim = Sim::new();
    let (seq, _) = over(&mut sim);
    sim.send(GUEST, SERVER, &syn(seq.wrapping_sub(10)));
    let challenge = sim.one();
    assert_eq!((challenge.flags, challenge.ack), (ACK, seq));
    sim.connect_with(GUEST, SERVER, seq.wrapping_add(1), &[]);
    assert_eq!(sim.stack.host().pipes.len(), 2);

    let mut sim = Sim::new();
    let (seq, _) = over(&mut sim);
    sim.send(GUEST, SERVER, &syn(seq.wrapping_sub(10)));
    let answer = Tcp { seq: sim.one().ack, flags: RST, ..Tcp::default() };
    sim.send(GUEST, SERVER, &answer);
    sim.nothing();
    sim.connect_with(GUEST, SERVER, seq.wrapping_sub(10), &[]);

    let mut sim = Sim::new();
    let (seq, _) = over(&mut sim);
    sim.pass(Duration::from_secs(11));
    sim.connect_with(GUEST, SERVER, seq.wrapping_sub(10), &[]);
}

/// Group 11: a SYN in an open connection does not disturb it and is challenged
/// (RFC 5961, 4.2), whatever its number and with whatever it comes, once in a
/// second (7).
#[test]
fn a_syn_in_an_open_connection() {
    for arrange in [established, close_wait, fin_wait_1, fin_wait_2, last_ack] {
        for (shift, flags, data) in [
            (70_000u32, SYN, &b""[..]),
            (0, SYN, b"data"),
            (u32::MAX, SYN | ACK, b""),
            (5, SYN | FIN, b""),
        ] {
            let mut sim = Sim::new();
            let (seq, ack) = arrange(&mut sim);
            let before = sim.stack.host().pipes[0].borrow().written.clone();
            let syn = Tcp { seq: seq.wrapping_add(shift), flags, data, ..Tcp::default() };
            sim.send(GUEST, SERVER, &syn);
            let challenge = sim.one();
            assert_eq!((challenge.flags, challenge.ack), (ACK, seq), "{challenge:?}");
            assert!(challenge.seq.wrapping_sub(ack) <= 1, "{challenge:?} {ack}");
            sim.send(GUEST, SERVER, &syn);
            sim.nothing();
            assert_eq!(sim.stack.load().connections, 1);
            assert_eq!(sim.stack.host().pipes[0].borrow().written, before);
        }
    }
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.send(GUEST, SERVER, &Tcp { seq: seq + 7, flags: SYN, ..Tcp::default() });
    sim.one();
    sim.send(GUEST, SERVER, &Tcp { seq, ack, data: b"on", ..Tcp::default() });
    assert_eq!(sim.stack.host().pipes[0].borrow().written, b"on");
}

/// Group 11: a guest that has forgotten a connection, and uses its port again,
/// answers the challenge with a reset and is connected by its next SYN.
#[test]
fn a_forgotten_connections_port_is_used_again() {
    for (from, to) in BOTH {
        let mut sim = Sim::new();
        sim.connect(from, to);
        let syn = Tcp { seq: 90_000, flags: SYN, ..Tcp::default() };
        sim.send(from, to, &syn);
        let challenge = sim.one();
        sim.send(from, to, &Tcp { seq: challenge.ack, flags: RST, ..Tcp::default() });
        sim.nothing();
        assert!(sim.stack.host().pipes[0].borrow().reset);
        sim.connect_with(from, to, 90_000, &[]);
        assert_eq!(sim.stack.host().pipes.len(), 2);
    }
}
