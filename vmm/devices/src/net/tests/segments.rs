//! Large segments, both ways.

use smoltcp::wire::TcpControl;

use super::guest::*;
use super::*;

/// A connection of the guest; the next numbers of the guest and the server.
pub fn connect(world: &mut World) -> (u32, u32) {
    world.send(PARTIAL, &tcp(TcpControl::Syn, 1000, None, &[]));
    world.turn();
    world.turn();
    let frames = world.received();
    let (seq, ack, _) = segment(&frames[0].1);
    assert_eq!(ack, 1001);
    world.send(PARTIAL, &tcp(TcpControl::None, 1001, Some(seq + 1), &[]));
    world.turn();
    (1001, seq + 1)
}

#[test]
fn a_segment_of_the_guest_goes_out_whole() {
    let mut world = World::up();
    world.offer(64, 4096);
    let (seq, ack) = connect(&mut world);
    let payload: Vec<u8> = (0..60_000_u32).map(|i| (i % 251) as u8).collect();
    // TCPV4 segments of 1448 bytes.
    let header = [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
    world.send(header, &tcp(TcpControl::Psh, seq, Some(ack), &payload));
    world.turn();
    assert!(world.host().pipes[0].borrow().written == payload);
}

#[test]
fn what_the_server_sends_comes_in_large_segments_over_many_buffers() {
    let mut world = World::up();
    world.offer(64, 4096);
    let (seq, ack) = connect(&mut world);
    world.received();
    let payload: Vec<u8> = (0..50_000_u32).map(|i| (i % 241) as u8).collect();
    world.host().touch(0, |pipe| pipe.incoming.extend(&payload));
    let signals = world.turn();
    assert!(signals.has(RX));
    let frames = world.received();
    let mut came = Vec::new();
    for (header, frame) in &frames {
        assert_eq!(header[0], 1, "a partial checksum");
        let (number, acknowledged, bytes) = segment(frame);
        assert_eq!((number, acknowledged), (ack + came.len() as u32, seq));
        if bytes.len() > 1460 {
            assert_eq!((header[1], &header[4..6]), (1, &1460u16.to_le_bytes()[..]));
            assert_eq!(usize::from(header[2]), 14 + 20 + 20);
        }
        came.extend(bytes);
    }
    assert!(came == payload);
    let long = frames.iter().filter(|(_, frame)| frame.len() > 40_000).count();
    assert!(long == 1 && frames.len() <= 3, "{} frames", frames.len());
}

#[test]
fn a_driver_without_offloads_gets_small_frames_with_checksums() {
    let mut world = World::with(&[VIRTIO_NET_F_MRG_RXBUF]);
    world.offer(64, 4096);
    connect(&mut world);
    world.host().touch(0, |pipe| pipe.incoming.extend(&[7; 10_000]));
    world.turn();
    let frames = world.received();
    let total: usize = frames.iter().map(|(_, frame)| segment(frame).2.len()).sum();
    assert_eq!(total, 10_000);
    for (header, frame) in frames {
        assert_eq!(header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert!(frame.len() <= 1514);
    }
}
