//! Windows and options, as small, silly and full of junk as they come.

use smoltcp::time::Duration;

use super::*;

/// R58, group 7: a guest with windows of one byte gets everything, at the
/// pace that it asks for.
#[test]
fn windows_of_a_byte() {
    for (from, to) in BOTH {
        let mut sim = Sim::new();
        let (seq, ack) = sim.connect_with(from, to, 1_000, &[2, 4, 5, 180]);
        sim.send(from, to, &Tcp { seq, ack, window: 1, ..Tcp::default() });
        let bytes: Vec<u8> = (0..200).collect();
        sim.stack.host().touch(0, |pipe| pipe.incoming.extend(&bytes));
        let (mut got, mut next) = (Vec::<u8>::new(), ack);
        for _ in 0..1_000 {
            sim.run();
            for segment in sim.segments() {
                assert!(segment.data.len() <= 1, "more than the window");
                if segment.seq == next {
                    got.extend(&segment.data);
                    next = segment.end();
                }
                sim.send(from, to, &Tcp { seq, ack: next, window: 1, ..Tcp::default() });
            }
            sim.pass(Duration::from_millis(100));
        }
        assert_eq!(got, bytes);
    }
}

/// R58, group 7: windows that open by a byte, close, and go back, do not lose
/// anything or stop for good.
#[test]
fn silly_windows() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect_with(GUEST, SERVER, 1_000, &[2, 4, 5, 180]);
    let bytes: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
    sim.stack.host().touch(0, |pipe| pipe.incoming.extend(&bytes));
    let (mut got, mut next) = (Vec::<u8>::new(), ack);
    for round in 0..2_000usize {
        let window = [0, 1, 5_000, 3, 0, 0, 1_460, 65_535, 2][round % 9];
        sim.send(GUEST, SERVER, &Tcp { seq, ack: next, window, ..Tcp::default() });
        for segment in sim.segments() {
            if segment.seq == next {
                got.extend(&segment.data);
                next = segment.end();
            }
        }
        if got.len() == bytes.len() {
            break;
        }
        if round % 50 == 0 {
            sim.pass(Duration::from_secs(2));
        }
    }
    assert!(got == bytes, "{} of {}", got.len(), bytes.len());
}

/// R58: a guest that takes the first of what is on its way, drops the rest and
/// closes its window, as Linux does when its memory is short, gets the rest
/// again, whether the window opens by little, or only when it is asked.
#[test]
fn what_a_closing_window_cut_is_sent_again() {
    for (from, to) in BOTH {
        for opened in [45, 1, 0] {
            let mut sim = Sim::new();
            let (seq, ack) = sim.connect(from, to);
            sim.stack.host().touch(0, |pipe| pipe.incoming.extend([7; 20_000]));
            sim.run();
            let sent: usize = sim.segments().iter().map(|got| got.data.len()).sum();
            assert_eq!(sent, 20_000);
            let ack = ack.wrapping_add(1_000);
            sim.send(from, to, &Tcp { seq, ack, window: 0, ..Tcp::default() });
            if opened > 0 {
                sim.send(from, to, &Tcp { seq, ack, window: opened, ..Tcp::default() });
            }
            sim.packets();
            sim.pass(Duration::from_secs(3));
            let again = sim.segments();
            assert!(again.iter().any(|got| got.seq == ack && !got.data.is_empty()), "{again:?}");
            // And all of it, once there is room.
            let (mut next, end) = (ack, ack.wrapping_add(19_000));
            for _ in 0..20 {
                sim.send(from, to, &Tcp { seq, ack: next, ..Tcp::default() });
                sim.pass(Duration::from_secs(2));
                for got in sim.segments().iter().filter(|got| !got.data.is_empty()) {
                    next = if got.seq == next { got.end() } else { next };
                }
            }
            assert_eq!(next, end);
        }
    }
}

/// As soon as the window opens: a download into a guest whose memory is short
/// would wait a second for each time that it closes.
#[test]
fn what_a_closing_window_cut_is_sent_again_when_it_opens() {
    for (from, to) in BOTH {
        for taken in [0, 1_000] {
            let mut sim = Sim::new();
            let (seq, ack) = sim.connect(from, to);
            sim.stack.host().touch(0, |pipe| pipe.incoming.extend([7; 30_000]));
            sim.run();
            let end = ack.wrapping_add(30_000);
            let mut next = ack.wrapping_add(taken);
            sim.segments();
            sim.send(from, to, &Tcp { seq, ack: next, window: 0, ..Tcp::default() });
            sim.segments();
            sim.send(from, to, &Tcp { seq, ack: next, ..Tcp::default() });
            // One acknowledgement for each that comes, as long as any does.
            loop {
                sim.run();
                let mut came = sim.segments();
                came.retain(|got| !got.data.is_empty());
                if came.is_empty() {
                    break;
                }
                for got in came {
                    next = if got.seq == next { got.end() } else { next };
                    sim.send(from, to, &Tcp { seq, ack: next, ..Tcp::default() });
                }
            }
            assert_eq!(next, end, "with {taken} bytes taken");
        }
    }
}

/// Group 7: options that lie, on any segment: blocks of SACK that were never
/// sent, lengths of nothing, a second MSS and scale.
#[test]
fn junk_among_the_options() {
    let junk: [&[u8]; 6] = [
        &[5, 10, 255, 255, 255, 255, 0, 0, 0, 1, 1, 1],
        &[
            5, 34, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3,
            4, 5, 6, 7, 8, 1, 1,
        ],
        &[2, 4, 0, 1, 3, 3, 14, 1],
        &[8, 10, 255, 255, 255, 255, 0, 0, 0, 0, 1, 1],
        &[99, 1, 1, 1],
        &[5, 0, 0, 0],
    ];
    for options in junk {
        for (from, to) in BOTH {
            let mut sim = Sim::new();
            let (seq, ack) = sim.connect(from, to);
            sim.stack.host().touch(0, |pipe| pipe.incoming.extend([7; 10_000]));
            sim.run();
            let data: usize = sim.segments().iter().map(|got| got.data.len()).sum();
            assert_eq!(data, 10_000);
            sim.send(from, to, &Tcp { seq, ack, options, data: b"junk", ..Tcp::default() });
            sim.send(from, to, &Tcp { seq, ack, data: b"junk", ..Tcp::default() });
            sim.packets();
            assert_eq!(sim.stack.host().pipes[0].borrow().written, b"junk", "{options:?}");
            sim.stack.assert_consistent();
        }
    }
}

/// R58, group 12: neither a guest that does not read nor a host that does not
/// costs more than the rings that the connection was given.
#[test]
fn who_does_not_read_costs_a_ring() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    let rings = sim.stack.load().rings;
    sim.send(GUEST, SERVER, &Tcp { seq, ack, window: 0, ..Tcp::default() });
    sim.stack.host().touch(0, |pipe| {
        pipe.incoming.extend(vec![1; 4 << 20]);
        pipe.room = 0;
    });
    for at in (0..4 << 20).step_by(60_000) {
        let seq = seq.wrapping_add(at);
        sim.send(GUEST, SERVER, &Tcp { seq, ack, window: 0, data: &[2; 60_000], ..Tcp::default() });
    }
    let pipe = sim.stack.host().pipes[0].clone();
    assert!(pipe.borrow().incoming.len() > (4 << 20) - 300_000);
    assert!(pipe.borrow().written.is_empty());
    assert_eq!(sim.stack.load().rings, rings);
}
