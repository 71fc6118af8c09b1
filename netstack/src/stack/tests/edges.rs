//! The edge of the window, numbers that wrap, and segments that lie.

use smoltcp::time::Duration;

use super::*;
use crate::port::{Offload, Partial, SegmentKind, Segments};

/// R57, group 4, regression for smoltcp 0.14: bytes up to the edge of a scaled
/// window with a FIN behind them arrive, or are not acknowledged; they are
/// never cut with a clean end. The script: 131,072 bytes with the FIN on the
/// last of them, while the host reads nothing.
#[test]
fn a_fin_at_the_edge_does_not_cut_the_stream() {
    for odd in 0..4usize {
        let mut sim = Sim::new();
        let (first, ack) = sim.connect(GUEST, SERVER);
        sim.stack.host().touch(0, |pipe| pipe.room = 0);
        let bytes: Vec<u8> =
            (0..131_072u32).map(|n| n.to_le_bytes()[usize::from(n % 7 == 0)]).collect();
        let mut sent = 0;
        // An odd length first makes every later acknowledgement odd.
        let mut lengths = vec![odd];
        lengths.extend([1_448; 200]);
        for length in lengths {
            let end = (sent + length).min(bytes.len());
            let flags = if end == bytes.len() { ACK | FIN } else { ACK };
            let seq = first.wrapping_add(u32::try_from(sent).unwrap());
            sim.send(
                GUEST,
                SERVER,
                &Tcp { seq, ack, flags, data: &bytes[sent..end], ..Tcp::default() },
            );
            sent = end;
            if sent == bytes.len() {
                break;
            }
        }
        assert_whole(&mut sim, first, ack, &bytes, odd);
    }
}

/// Group 4: the same with a guest that sends past what it was told, so that
/// the segment with the FIN is cut whatever the window was.
#[test]
fn a_fin_past_the_edge_does_not_cut_the_stream() {
    for length in [262_144usize, 262_147, 263_000] {
        let mut sim = Sim::new();
        let (first, ack) = sim.connect(GUEST, SERVER);
        sim.stack.host().touch(0, |pipe| pipe.room = 0);
        let bytes: Vec<u8> =
            (0..length).map(|n| n.to_le_bytes()[usize::from(n % 7 == 0)]).collect();
        for at in (0..length).step_by(40_001) {
            let end = (at + 40_001).min(length);
            let flags = if end == length { ACK | FIN } else { ACK };
            let seq = first.wrapping_add(u32::try_from(at).unwrap());
            let data = &bytes[at..end];
            sim.send(GUEST, SERVER, &Tcp { seq, ack, flags, data, ..Tcp::default() });
        }
        assert_eq!(sim.stack.counters().fins_held, 1);
        assert_whole(&mut sim, first, ack, &bytes, length);
    }
}

/// Lets the host read, and the guest send again what was not acknowledged.
fn assert_whole(sim: &mut Sim, first: u32, ack: u32, bytes: &[u8], case: usize) {
    sim.stack.host().touch(0, |pipe| pipe.room = usize::MAX);
    for _ in 0..10 {
        sim.run();
        let acked = sim.segments().last().map_or(first, |got| got.ack);
        let from = usize::try_from(acked.wrapping_sub(first)).unwrap().min(bytes.len());
        if sim.stack.host().pipes[0].borrow().finished {
            break;
        }
        sim.send(
            GUEST,
            SERVER,
            &Tcp { seq: acked, ack, flags: ACK | FIN, data: &bytes[from..], ..Tcp::default() },
        );
    }
    let pipe = sim.stack.host().pipes[0].borrow();
    assert!(pipe.finished, "case {case}");
    assert_eq!(pipe.written.len(), bytes.len(), "case {case}");
    assert!(pipe.written == bytes, "case {case}: other bytes");
}

/// Group 4: the same with a guest that fills every window to its very edge,
/// and ends exactly there.
#[test]
fn a_stream_that_ends_at_the_edge() {
    for odd in 0..8u32 {
        let mut sim = Sim::new();
        let (first, ack) = sim.connect(GUEST, SERVER);
        sim.stack.host().touch(0, |pipe| pipe.room = 0);
        let mut sent = Vec::new();
        let mut chunk = vec![0x55; usize::try_from(odd).unwrap() + 1];
        let mut edge = first.wrapping_add(65_535);
        for round in 0..40u8 {
            let seq = first.wrapping_add(u32::try_from(sent.len()).unwrap());
            let left = edge.wrapping_sub(seq);
            if left == 0 || left > 1 << 20 {
                break;
            }
            chunk.resize(chunk.len().min(usize::try_from(left).unwrap()), round);
            let last = chunk.len() == usize::try_from(left).unwrap();
            let flags = if last { ACK | FIN } else { ACK };
            sent.extend(&chunk);
            sim.send(GUEST, SERVER, &Tcp { seq, ack, flags, data: &chunk, ..Tcp::default() });
            for got in sim.segments() {
                let next = got.ack.wrapping_add(u32::from(got.window) << 2);
                assert!(next.wrapping_sub(edge) < 1 << 20, "the edge went back at {round}");
                edge = next;
            }
            if last {
                break;
            }
            chunk = vec![round; 60_001];
        }
        assert_whole(&mut sim, first, ack, &sent, usize::try_from(odd).unwrap());
    }
}

/// Group 14: a guest that sends more than it was told there is room for, ahead
/// of its turn, breaks nothing; smoltcp itself would believe more than its
/// ring holds for the first window.
#[test]
fn more_than_the_window_ahead_of_its_turn() {
    for rings in [0, 400_000, 64 << 20] {
        let mut sim = Sim::with(&crate::policy::Layer::Unset, rings);
        let (first, ack) = sim.connect(GUEST, SERVER);
        sim.stack.host().touch(0, |pipe| pipe.room = 0);
        for at in (0..300_000u32).rev().step_by(30_000).chain((0..600_000).step_by(60_000)) {
            let seq = first.wrapping_add(at);
            sim.send(GUEST, SERVER, &Tcp { seq, ack, data: &[1; 60_000], ..Tcp::default() });
        }
        assert!(sim.stack.host().pipes[0].borrow().written.is_empty());
    }
}

/// Group 8: numbers wrap in both directions without a byte lost.
#[test]
fn numbers_wrap() {
    let mut sim = Sim::new();
    let (mut seq, mut ack) =
        sim.connect_with(GUEST, SERVER, 0xffff_ff00, &[2, 4, 5, 180, 1, 3, 3, 7]);
    let mut expected: Vec<u8> = Vec::new();
    for round in 0..100u8 {
        let data = vec![round; 997];
        sim.send(GUEST, SERVER, &Tcp { seq, ack, data: &data, ..Tcp::default() });
        seq = seq.wrapping_add(997);
        expected.extend(&data);
        sim.stack.host().touch(0, |pipe| pipe.incoming.extend([round; 10]));
        sim.run();
        let last = sim.segments().pop().unwrap();
        assert_eq!((last.ack, last.data.len()), (seq, 10));
        ack = last.end();
    }
    assert_eq!(sim.stack.host().pipes[0].borrow().written, expected);
}

/// R56, group 9: what overlaps or comes twice reaches the host once, as it
/// came first.
#[test]
fn overlaps_and_duplicates() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    let send = |sim: &mut Sim, at: u32, data: &[u8]| {
        sim.send(GUEST, SERVER, &Tcp { seq: seq + at, ack, data, ..Tcp::default() });
    };
    send(&mut sim, 0, b"abcd");
    send(&mut sim, 0, b"ABCD");
    send(&mut sim, 2, b"XXefgh");
    send(&mut sim, 12, b"mnop");
    send(&mut sim, 8, b"ijkl");
    send(&mut sim, 0, b"abcdefghijklmnop");
    assert_eq!(sim.stack.host().pipes[0].borrow().written, b"abcdefghijklmnop");
}

/// R58, group 7: whatever MSS and scale the guest says, the stack sends what
/// fits them and takes what comes.
#[test]
fn any_mss_and_any_scale() {
    for mss in [0u16, 1, 48, 536, 1460, 65_495, 65_535] {
        for scale in [0u8, 7, 14, 15, 255] {
            let mut sim = Sim::new();
            let [high, low] = mss.to_be_bytes();
            let options = [2, 4, high, low, 1, 3, 3, scale];
            let (seq, ack) = sim.connect_with(GUEST, SERVER, 9, &options);
            sim.stack.host().touch(0, |pipe| pipe.incoming.extend([7; 5_000]));
            sim.run();
            let got: usize = sim.segments().iter().map(check_size).sum();
            assert_eq!(got, 5_000, "MSS {mss}, scale {scale}");
            sim.send(GUEST, SERVER, &Tcp { seq, ack, data: b"x", ..Tcp::default() });
            assert_eq!(sim.stack.host().pipes[0].borrow().written, b"x");
        }
    }
}

/// A segment larger than the MTU says how it is cut.
fn check_size(got: &Got) -> usize {
    match got.offload.segments {
        Some(Segments { size, headers, .. }) => {
            assert!(usize::from(size) < got.data.len());
            assert!(size + 40 <= 1500 && headers == 54);
        }
        None => assert!(got.data.len() <= 1460),
    }
    got.data.len()
}

/// Group 14: segmentation that does not fit the packet is refused, a checksum
/// that is wrong and not left to us as well.
#[test]
fn lies_about_offload() {
    let mut sim = Sim::new();
    let (seq, ack) = sim.connect(GUEST, SERVER);
    let segment = Tcp { seq, ack, data: b"data", ..Tcp::default() };
    let ip = segment.packet(GUEST, SERVER);
    sim.packet(&ip, Offload::default());
    let checksum = Some(Partial { start: 34, offset: 16 });
    let segments = Some(Segments { kind: SegmentKind::Tcp6, size: 100, headers: 0 });
    sim.packet(&ip, Offload { checksum, segments });
    sim.run();
    sim.nothing();
    assert_eq!(sim.stack.counters().refused["TCP checksum or segmentation"], 2);
    assert!(sim.stack.host().pipes[0].borrow().written.is_empty());
}

/// Group 13: a port that is full for a while costs neither bytes nor a
/// retransmission's second.
#[test]
fn a_full_port_loses_nothing() {
    let mut sim = Sim::new();
    sim.connect(GUEST, SERVER);
    sim.port.capacity = 2;
    let bytes: Vec<u8> = (0..600_000u32).map(|n| n.to_le_bytes()[0]).collect();
    sim.stack.host().touch(0, |pipe| pipe.incoming.extend(&bytes));
    let (mut got, mut expected) = (Vec::new(), None);
    let began = sim.now;
    while got.len() < bytes.len() {
        sim.now += Duration::from_millis(1);
        assert!(sim.now < began + Duration::from_millis(100), "stalled at {}", got.len());
        sim.run();
        let segments = sim.segments();
        for segment in segments {
            assert!(expected.is_none_or(|expected| expected == segment.seq), "sent twice");
            expected = Some(segment.end());
            got.extend(&segment.data);
        }
        let ack = expected.unwrap();
        sim.send(GUEST, SERVER, &Tcp { seq: 1_001, ack, ..Tcp::default() });
        got.extend(sim.segments().into_iter().flat_map(|segment| {
            expected = Some(segment.end());
            segment.data
        }));
    }
    assert_eq!(got, bytes);
}
