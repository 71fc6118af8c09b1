//! Frames through the rings.

use virtio_bindings::virtio_ring::VRING_DESC_F_INDIRECT;
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress};

use super::guest::*;
use super::segments::connect;
use super::*;

#[test]
fn the_config_space_is_that_of_the_link() {
    let config = config_space(&LinkSpec { mac: GUEST_MAC, mtu: 1450 });
    assert_eq!(config, [2, 0, 0, 0, 0, 2, 1, 0, 1, 0, 0xaa, 5]);
}

#[test]
fn a_frame_is_answered_and_the_driver_interrupted_once_per_ring() {
    let mut world = World::up();
    world.offer(4, BUFFER);
    world.send(PLAIN, &arp());
    world.send(PLAIN, &arp());
    let signals = world.turn();
    assert!(signals.has(RX) && signals.has(TX));
    assert_eq!(world.driver.returned(TX), [(0, 0), (2, 0)]);
    let frames = world.received();
    assert_eq!(frames.len(), 2);
    for (header, frame) in frames {
        assert_eq!(header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert!(is_arp_reply(&frame));
    }
    assert_eq!(world.turn(), Signals::default());
}

#[test]
fn a_frame_may_lie_in_pieces_of_any_size() {
    for piece in [1, 3, 5, 11, 12, 13, 53] {
        let mut world = World::up();
        world.offer(1, BUFFER);
        let bytes: Vec<u8> = PLAIN.into_iter().chain(arp()).collect();
        let parts: Vec<Part> = bytes.chunks(piece).map(|bytes| world.part(bytes)).collect();
        world.driver.chain(TX, &parts);
        world.turn();
        let frames = world.received();
        assert!(frames.len() == 1 && is_arp_reply(&frames[0].1), "pieces of {piece}");
    }
}

#[test]
fn a_frame_may_lie_behind_an_indirect_table() {
    let mut world = World::up();
    world.offer(1, BUFFER);
    let parts = [world.part(&PLAIN), world.part(&arp())];
    let table = world.driver.buffer(32);
    world.driver.describe_at(table, 0, parts[0], 1, 1);
    world.driver.describe_at(table, 1, parts[1], 0, 0);
    let indirect = Part { addr: table, len: 32, write: false };
    world.driver.describe(TX, 7, indirect, VRING_DESC_F_INDIRECT, 0);
    world.driver.offer(TX, 7);
    world.turn();
    assert!(is_arp_reply(&world.received()[0].1));
    assert_eq!(world.driver.returned(TX), [(7, 0)]);
}

/// What the server sends next.
fn serve(world: &mut World, bytes: &[u8]) {
    world.host().touch(0, |pipe| pipe.incoming.extend(bytes));
    world.turn();
}

#[test]
fn a_long_frame_is_spread_over_buffers_that_are_returned_at_once() {
    let mut world = World::up();
    world.offer(4, 512);
    connect(&mut world);
    serve(&mut world, &[1; 1400]);
    assert_eq!(world.received().len(), 1, "in the last three");
    world.offer(2, 512);
    serve(&mut world, &[2; 1400]);
    assert_eq!(world.driver.returned(RX), [], "1466 bytes do not fit in two");
    assert_eq!(world.driver.queues[RX].next_avail(), 4, "and they are not kept");
    world.offer(2, 512);
    assert!(world.turn().has(RX));
    let frames = world.received();
    assert_eq!(frames.len(), 1);
    let (header, frame) = &frames[0];
    assert_eq!(header[10..], [3, 0]);
    assert_eq!(segment(frame).2, [2; 1400]);
    assert_eq!(world.driver.queues[RX].next_avail(), 7, "the fourth is still there");
}

#[test]
fn a_starved_ring_loses_nothing_and_asks_for_a_kick() {
    let mut world = World::with(&[VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MRG_RXBUF]);
    world.driver.queues[RX].set_event_idx(true);
    world.offer(2, BUFFER);
    let (_, number) = connect(&mut world);
    let bytes: Vec<u8> = (0..20_000_u32).map(|i| (i % 239) as u8).collect();
    serve(&mut world, &bytes);
    let event = GuestAddress(world.driver.used_ring(RX) + 4 + 8 * u64::from(QUEUE_SIZES[RX]));
    let available = GuestAddress(world.driver.available_ring(RX) + 2);
    let mut came = vec![0; bytes.len()];
    let mut frames = world.received();
    while frames.len() < 20_000_usize.div_ceil(1460) {
        let (asked, offered): (u16, u16) = (
            world.driver.memory.read_obj(event).unwrap(),
            world.driver.memory.read_obj(available).unwrap(),
        );
        assert_eq!(asked, offered, "the next buffer is to be told of");
        world.offer(2, BUFFER);
        world.turn();
        frames.extend(world.received());
    }
    for (_, frame) in frames {
        let (seq, _, bytes) = segment(&frame);
        let at = (seq - number) as usize;
        came[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    assert!(came == bytes);
}

#[test]
fn the_guest_waits_while_its_replies_have_no_room() {
    let mut world = World::up();
    for _ in 0..5 {
        world.send(PLAIN, &arp());
    }
    world.turn();
    assert_eq!(world.driver.returned(TX), [], "what it is owed comes first");
    world.offer(5, BUFFER);
    world.turn();
    assert_eq!(world.driver.returned(TX).len(), 5);
    assert_eq!(world.received().len(), 5);
}

#[test]
fn a_turn_is_bounded_and_another_one_follows() {
    let mut world = World::up();
    world.offer(300, BUFFER);
    for _ in 0..300 {
        world.send(PLAIN, &arp());
    }
    let mut turns = 0;
    let mut taken = 0;
    while taken < 300 {
        world.turn();
        let now = world.driver.returned(TX).len();
        assert!((1..=64).contains(&now), "{now}");
        taken += now;
        turns += 1;
        assert_eq!(world.is_awake(), taken < 300 || now == 64, "after {taken}");
    }
    assert!(turns >= 5);
}

#[test]
fn interrupts_follow_the_event_index() {
    let mut world = World::up();
    world.driver.queues[RX].set_event_idx(true);
    let used_event =
        GuestAddress(world.driver.available_ring(RX) + 4 + 2 * u64::from(QUEUE_SIZES[RX]));
    world.driver.memory.write_obj(2u16, used_event).unwrap();
    world.offer(4, BUFFER);
    world.send(PLAIN, &arp());
    assert!(!world.turn().has(RX));
    world.send(PLAIN, &arp());
    world.send(PLAIN, &arp());
    assert!(world.turn().has(RX), "the third is the one that it waits for");
}

#[test]
fn a_driver_without_mergeable_buffers_gets_whole_frames_or_none() {
    let mut world = World::with(&[VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4]);
    let driver = world.net.driver.unwrap();
    assert!(driver.capabilities.checksum && !driver.capabilities.segments);
    world.offer(4, 512);
    connect(&mut world);
    serve(&mut world, &[1; 1400]);
    assert_eq!(world.driver.returned(RX), []);
    assert_eq!(world.count("link.too-long"), 1);
    world.send(PLAIN, &arp());
    world.turn();
    assert!(is_arp_reply(&world.received()[0].1));
}
