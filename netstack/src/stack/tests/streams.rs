//! Bytes both ways, and how connections end.

use std::net::SocketAddr;

use smoltcp::time::Duration;

use super::carrier::Dice;
use super::*;
use crate::host::Errno;

/// R57, group 5: after the guest's FIN the host goes on sending, and after
/// the host's end the guest does, ten megabytes each.
#[test]
fn either_half_goes_on_after_the_other_has_ended() {
    const BYTES: usize = 10 << 20;
    // The guest ends first.
    let mut sim = Sim::new();
    let (seq, mut ack) = sim.connect(GUEST, SERVER);
    sim.send(GUEST, SERVER, &Tcp { seq, ack, flags: ACK | FIN, ..Tcp::default() });
    assert!(sim.stack.host().pipes[0].borrow().finished);
    assert_eq!(sim.one().ack, seq + 1);
    sim.stack.host().touch(0, |pipe| pipe.incoming.extend(vec![3; BYTES]));
    let mut got = 0;
    while got < BYTES {
        sim.run();
        let segments = sim.segments();
        got += segments.iter().map(|segment| segment.data.len()).sum::<usize>();
        ack = segments.last().map_or(ack, Got::end);
        sim.send(GUEST, SERVER, &Tcp { seq: seq + 1, ack, ..Tcp::default() });
    }
    sim.stack.host().touch(0, |pipe| pipe.ended = true);
    sim.run();
    let last = sim.segments().pop().unwrap();
    assert_eq!(last.flags & FIN, FIN);
    sim.send(GUEST, SERVER, &Tcp { seq: seq + 1, ack: last.end(), ..Tcp::default() });
    assert_eq!(sim.stack.load().connections, 0);
    assert!(!sim.stack.host().pipes[0].borrow().reset);

    // The host ends first.
    let mut sim = Sim::new();
    let (mut seq, ack) = sim.connect(GUEST, SERVER);
    sim.stack.host().touch(0, |pipe| pipe.ended = true);
    sim.run();
    let fin = sim.one();
    assert_eq!((fin.flags & FIN, fin.seq), (FIN, ack));
    for _ in 0..BYTES / 16_384 {
        sim.send(GUEST, SERVER, &Tcp { seq, ack: ack + 1, data: &[9; 16_384], ..Tcp::default() });
        seq = seq.wrapping_add(16_384);
        assert_eq!(sim.segments().pop().unwrap().ack, seq);
    }
    assert_eq!(sim.stack.host().pipes[0].borrow().written.len(), BYTES);
    sim.send(GUEST, SERVER, &Tcp { seq, ack: ack + 1, flags: ACK | FIN, ..Tcp::default() });
    let pipe = sim.stack.host().pipes[0].clone();
    assert!(pipe.borrow().finished && pipe.borrow().closed && !pipe.borrow().reset);
}

/// R57, group 6: a host that sends and closes at once, before the guest has
/// said anything.
#[test]
fn the_host_sends_and_closes_at_once() {
    let mut sim = Sim::new();
    sim.send(GUEST, SERVER, &Tcp { seq: 1_000, flags: SYN, ..Tcp::default() });
    sim.stack.host().touch(0, |pipe| {
        pipe.incoming.extend(b"bye");
        pipe.ended = true;
    });
    sim.run();
    let answer = sim.one();
    sim.send(GUEST, SERVER, &Tcp { seq: 1_001, ack: answer.seq + 1, ..Tcp::default() });
    let last = sim.one();
    assert_eq!((last.data.as_slice(), last.flags & FIN), (b"bye".as_slice(), FIN));
}

/// R57, group 5: both end at once; the late segment of a connection that is
/// over is answered, and a new one with a higher number takes its place.
#[test]
fn both_end_at_once_and_what_comes_late() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.stack.host().touch(0, |pipe| pipe.ended = true);
    sim.run();
    assert_eq!(sim.one().flags & FIN, FIN);
    let fin = Tcp { seq, ack, flags: ACK | FIN, ..Tcp::default() };
    sim.send(GUEST, SERVER, &fin);
    assert_eq!(sim.segments().pop().unwrap().ack, seq + 1);
    sim.send(GUEST, SERVER, &Tcp { seq: seq + 1, ack: ack + 1, ..Tcp::default() });
    assert_eq!(sim.stack.load().connections, 0);
    sim.packets();

    sim.send(GUEST, SERVER, &Tcp { ack: ack + 1, ..fin });
    let late = sim.one();
    assert_eq!((late.flags, late.seq, late.ack), (ACK, ack + 1, seq + 1));
    sim.send(GUEST, SERVER, &Tcp { seq: seq - 50, flags: SYN, ..Tcp::default() });
    let challenge = sim.one();
    assert_eq!((challenge.flags, challenge.seq, challenge.ack), (ACK, ack + 1, seq + 1));
    sim.connect_with(GUEST, SERVER, seq + 5_000, &[]);
}

/// R57: both have ended, but the host has not read all yet. Nothing that comes
/// late from the guest takes it away.
#[test]
fn what_is_over_is_still_carried_out() {
    for host_first in [true, false] {
        let mut sim = Sim::new();
        let (mut seq, mut ack) = sim.connect(GUEST, SERVER);
        sim.stack.host().touch(0, |pipe| pipe.room = 4);
        let end = |sim: &mut Sim| {
            sim.stack.host().touch(0, |pipe| pipe.ended = true);
            sim.run();
            assert_eq!(sim.one().flags & FIN, FIN);
        };
        if host_first {
            end(&mut sim);
            ack += 1;
        }
        let last = Tcp { seq, ack, flags: ACK | FIN, data: b"last words", ..Tcp::default() };
        sim.send(GUEST, SERVER, &last);
        seq += 11;
        assert_eq!(sim.segments().pop().unwrap().ack, seq);
        if !host_first {
            end(&mut sim);
            ack += 1;
        }
        sim.send(GUEST, SERVER, &Tcp { seq, ack, ..Tcp::default() });
        sim.nothing();
        let syn = |shift: u32| Tcp { seq: seq + shift, flags: SYN, ..Tcp::default() };
        for late in [last, Tcp { seq, ack, data: b"!", ..Tcp::default() }, syn(0), syn(70_000)] {
            sim.send(GUEST, SERVER, &late);
            let answer = sim.one();
            assert_eq!((answer.flags, answer.seq, answer.ack), (ACK, ack, seq), "{late:?}");
        }
        for flags in [ACK, RST, RST | ACK] {
            sim.send(GUEST, SERVER, &Tcp { seq, ack, flags, ..Tcp::default() });
            sim.nothing();
        }
        sim.pass(Duration::from_secs(60));
        assert_eq!(sim.stack.load().connections, 1);
        sim.stack.host().touch(0, |pipe| pipe.room = 1_000);
        sim.run();
        let pipe = sim.stack.host().pipes[0].borrow();
        assert_eq!(pipe.written, b"last words");
        assert!(pipe.finished && pipe.closed && !pipe.reset);
    }
}

/// R57: a reset of the guest is one of the host's, after what came before it.
#[test]
fn the_guest_resets() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.send(GUEST, SERVER, &Tcp { seq, ack, data: b"last words", ..Tcp::default() });
    sim.packets();
    sim.send(GUEST, SERVER, &Tcp { seq: seq + 10, ack, flags: RST | ACK, ..Tcp::default() });
    sim.nothing();
    let pipe = sim.stack.host().pipes[0].borrow();
    assert_eq!(pipe.written, b"last words");
    assert!(pipe.reset && pipe.closed);
}

/// R57: a failure of the host is a reset for the guest, after what was read,
/// and never a clean end.
#[test]
fn the_host_fails() {
    for error in [Errno::CONNRESET, Errno::TIMEDOUT, Errno::PIPE] {
        let mut sim = Sim::new();
        let (seq, ack) = sim.connect(GUEST, SERVER);
        sim.stack.host().touch(0, |pipe| {
            pipe.incoming.extend(b"last words");
            pipe.failed = Some(error);
        });
        sim.run();
        let data = sim.one();
        assert_eq!((data.data.as_slice(), data.flags & FIN), (b"last words".as_slice(), 0));
        sim.send(GUEST, SERVER, &Tcp { seq, ack: data.end(), ..Tcp::default() });
        assert_eq!(sim.one().flags & RST, RST, "{error}");
        assert_eq!((sim.stack.load().connections, ack), (0, data.seq));
    }
}

/// R57: a host that is gone when the guest writes is a failure too, although
/// it has nothing more to be read than an end.
#[test]
fn the_host_is_gone_when_the_guest_writes() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.stack.host().touch(0, |pipe| pipe.failed = Some(Errno::PIPE));
    sim.send(GUEST, SERVER, &Tcp { seq, ack, data: b"x", ..Tcp::default() });
    let answers = sim.segments();
    assert_eq!(answers.last().unwrap().flags & RST, RST, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.flags & FIN == 0));
}

/// R58, group 7: a window of zero holds the host's bytes back where they are,
/// is probed, and ends when the guest opens it.
#[test]
fn a_window_of_zero() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.send(GUEST, SERVER, &Tcp { seq, ack, window: 0, ..Tcp::default() });
    sim.stack.host().touch(0, |pipe| pipe.incoming.extend(vec![1; 1 << 20]));
    let mut next = ack;
    for _ in 0..10 {
        sim.pass(Duration::from_secs(1));
        for probe in sim.segments() {
            assert!(probe.data.len() <= 1);
            sim.send(GUEST, SERVER, &Tcp { seq, ack, window: 0, ..Tcp::default() });
        }
    }
    let left = sim.stack.host().pipes[0].borrow().incoming.len();
    assert!(left > (1 << 20) - 300_000, "{} bytes were read ahead", (1 << 20) - left);
    let mut got = 0;
    while got < 1 << 20 {
        sim.send(GUEST, SERVER, &Tcp { seq, ack: next, ..Tcp::default() });
        let before = got;
        for segment in sim.segments() {
            if segment.seq == next {
                next = segment.end();
                got += segment.data.len();
            }
        }
        assert!(got > before, "stalled at {got}");
    }
    assert_eq!(got, 1 << 20);
}

/// R58, group 12: a host that does not read stops the guest by its window, at
/// the size of a ring.
#[test]
fn a_host_that_does_not_read() {
    let mut sim = Sim::new();
    let (first, ack) = sim.connect(GUEST, SERVER);
    sim.stack.host().touch(0, |pipe| pipe.room = 0);
    let (mut seq, mut edge) = (first, first.wrapping_add(65_535));
    loop {
        let left = usize::try_from(edge.wrapping_sub(seq)).unwrap().min(1_448);
        if left == 0 {
            break;
        }
        sim.send(GUEST, SERVER, &Tcp { seq, ack, data: &vec![5; left], ..Tcp::default() });
        seq = seq.wrapping_add(u32::try_from(left).unwrap());
        let last = sim.segments().pop().unwrap();
        assert_eq!(last.ack, seq);
        edge = last.ack.wrapping_add(u32::from(last.window) << 2);
    }
    assert!((260_000..=262_143).contains(&seq.wrapping_sub(first)));
    sim.stack.host().touch(0, |pipe| pipe.room = usize::MAX);
    sim.run();
    let update = sim.segments().pop().unwrap();
    assert!(u32::from(update.window) << 2 > 200_000, "the window opens again by itself");
}

/// Group 10: a keep-alive of the guest is answered, and makes the host probe.
#[test]
fn keep_alive() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.send(GUEST, SERVER, &Tcp { seq, ack, data: b"x", ..Tcp::default() });
    sim.packets();
    assert!(!sim.stack.host().pipes[0].borrow().kept_alive);
    sim.send(GUEST, SERVER, &Tcp { seq, ack, ..Tcp::default() });
    assert_eq!(sim.one().ack, seq + 1);
    assert!(sim.stack.host().pipes[0].borrow().kept_alive);
}

/// R55, property: over a link that loses, repeats and reorders what the guest
/// sends, whatever the guest's segments are, the host gets what was sent, or
/// a reset: never less with a clean end.
#[test]
fn the_host_gets_what_was_sent_over_a_bad_link() {
    for seed in 1..=60u64 {
        let mut dice = Dice(seed * 0x9e37_79b9);
        let bad = [0, 1, 5, 20][usize::try_from(seed % 4).unwrap()];
        let length = usize::try_from(dice.roll(400_000)).unwrap();
        let bytes: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let mut sim = Sim::new();
        let (first, ack) = sim.connect_with(
            GUEST,
            SERVER,
            u32::try_from(dice.roll(1 << 32)).unwrap(),
            &[2, 4, 5, 180, 1, 3, 3, 7],
        );
        sim.stack.host().touch(0, |pipe| pipe.room = 50_000);
        let mut acked = 0;
        for _ in 0..100_000 {
            if sim.stack.host().pipes[0].borrow().finished {
                break;
            }
            send_window(&mut sim, &mut dice, bad, &bytes, acked, (first, ack));
            let more = usize::try_from(dice.roll(100_000)).unwrap();
            sim.stack.host().touch(0, |pipe| pipe.room = more);
            sim.pass(Duration::from_millis(1));
            for got in sim.segments() {
                assert_eq!(got.flags & RST, 0, "seed {seed}");
                let far = usize::try_from(got.ack.wrapping_sub(first)).unwrap();
                acked = acked.max(far.min(length));
            }
        }
        let pipe = sim.stack.host().pipes[0].borrow();
        assert!(pipe.finished, "seed {seed}: stuck at {acked} of {length}");
        assert!(pipe.written == bytes, "seed {seed}: {} of {length}", pipe.written.len());
    }
}

/// Sends some segments from what was acknowledged on, badly.
fn send_window(
    sim: &mut Sim,
    dice: &mut Dice,
    bad: u64,
    bytes: &[u8],
    from: usize,
    (first, ack): (u32, u32),
) {
    let mut segments = Vec::new();
    let mut at = from;
    for _ in 0..8 {
        let size = usize::try_from(dice.roll(20_000) + 1).unwrap();
        let end = (at + size).min(bytes.len());
        segments.push((at, end));
        at = end;
    }
    if dice.roll(100) < bad {
        let place = usize::try_from(dice.roll(8)).unwrap();
        segments.swap(0, place);
    }
    for (at, end) in segments {
        let times =
            if dice.roll(100) < bad { [0, 2][usize::try_from(dice.roll(2)).unwrap()] } else { 1 };
        for _ in 0..times {
            let flags = if end == bytes.len() { ACK | FIN } else { ACK };
            let seq = first.wrapping_add(u32::try_from(at).unwrap());
            sim.send(
                GUEST,
                SERVER,
                &Tcp { seq, ack, flags, data: &bytes[at..end], ..Tcp::default() },
            );
        }
    }
}

/// R55, property: the other way, a guest that loses what it is sent, and says
/// so by its acknowledgements alone, gets what the host sent.
#[test]
fn the_guest_gets_what_was_sent_over_a_bad_link() {
    for seed in 1..=30u64 {
        let mut dice = Dice(seed * 0x51_7cc1);
        let length = usize::try_from(dice.roll(300_000)).unwrap();
        let bytes: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let mut sim = Sim::new();
        let (seq, ack) = sim.connect(GUEST, SERVER);
        sim.stack.host().touch(0, |pipe| {
            pipe.incoming.extend(&bytes);
            pipe.ended = true;
        });
        let (mut got, mut next, mut ended) = (Vec::<u8>::new(), ack, false);
        for _ in 0..10_000 {
            sim.run();
            for segment in sim.segments() {
                let lost = dice.roll(10) == 0;
                let known = usize::try_from(next.wrapping_sub(segment.seq)).unwrap_or(usize::MAX);
                if !lost && known <= segment.data.len() && !ended {
                    got.extend(&segment.data[known..]);
                    ended = segment.flags & FIN != 0;
                    next = segment.end();
                }
                sim.send(GUEST, SERVER, &Tcp { seq, ack: next, ..Tcp::default() });
            }
            if ended {
                break;
            }
            sim.pass(Duration::from_secs(1));
        }
        assert!(ended && got == bytes, "seed {seed}: {} of {length}", got.len());
    }
}

/// R74: a connection is decided when it begins and by its ends alone: what is
/// spoken on it, and what it turns into, makes no difference, and another
/// connection is another decision.
#[test]
fn what_is_spoken_makes_no_difference() {
    let policy = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n\
        [[rule]]\nid = \"web\"\ndir = \"egress\"\naction = \"allow\"\nports = [80]\n";
    let talks: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: denied.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n",
    ];
    for talk in talks {
        let mut sim = Sim::under(policy);
        let (seq, ack) = sim.connect(GUEST, SERVER);
        sim.send(GUEST, SERVER, &Tcp { seq, ack, data: talk, ..Tcp::default() });
        assert_eq!(sim.stack.host().pipes[0].borrow().written, talk);
        sim.packets();
        let denied = SocketAddr::new(SERVER.ip(), 8_080);
        sim.send(GUEST, denied, &Tcp { seq: 1, flags: SYN, ..Tcp::default() });
        assert_eq!(sim.one().flags, RST | ACK);
        assert_eq!(sim.stack.host().pipes.len(), 1);
    }
}
