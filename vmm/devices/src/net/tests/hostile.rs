//! Drivers and guests that break the rules.

use std::thread;

use super::guest::*;
use super::*;

#[test]
fn rings_that_break_the_rules_stop_the_device() {
    let part = |addr, len, write| Part { addr, len, write };
    type Harm = fn(&mut World);
    let harms: [(&str, usize, Harm); 6] = [
        ("a looped frame", TX, |world| {
            world.driver.describe(TX, 0, Part { addr: 0, len: 64, write: false }, 1, 0);
            world.driver.offer(TX, 0);
        }),
        ("a looped buffer", RX, |world| {
            world.driver.describe(RX, 0, Part { addr: 0, len: 64, write: true }, 1, 0);
            world.driver.offer(RX, 0);
        }),
        ("an index that jumps", TX, |world| world.driver.advance(TX, 2000)),
        ("an index of buffers that jumps", RX, |world| world.driver.advance(RX, 2000)),
        ("a frame outside of memory", TX, |world| {
            world.driver.chain(TX, &[Part { addr: u64::MAX - 8, len: 64, write: false }]);
        }),
        ("a buffer outside of memory", RX, |world| {
            world.driver.chain(RX, &[Part { addr: 1 << 40, len: 64, write: true }]);
        }),
    ];
    for (what, queue, harm) in harms {
        let mut world = World::up();
        if queue == TX {
            world.offer(2, BUFFER);
        } else {
            world.send(PLAIN, &arp());
        }
        harm(&mut world);
        let error = world.try_turn().expect_err(what);
        let found = matches!(error, DeviceError::Ring { queue: at, .. } if at == queue);
        assert!(found, "{what}: {error:?}");
        world.net.end();
    }
    for bad in [part(0x20_0000, 11, true), part(0x20_0000, 64, false), part(0x20_0000, 0, true)] {
        let mut world = World::up();
        world.send(PLAIN, &arp());
        world.driver.chain(RX, &[bad]);
        let error = world.try_turn().expect_err("no room for a header");
        assert!(matches!(error, DeviceError::Request { queue: RX, .. }), "{error:?}");
    }
}

#[test]
fn what_is_no_frame_is_counted_and_returned() {
    let mut world = World::up();
    world.offer(8, BUFFER);
    let addr = world.driver.buffer(2000);
    world.driver.chain(TX, &[Part { addr, len: 2000, write: true }]);
    world.driver.chain(TX, &[Part { addr, len: 0, write: false }]);
    world.driver.chain(TX, &[Part { addr, len: 11, write: false }]);
    // A byte more than the longest frame, in descriptors over the same memory.
    let long = 14 + 65_535 + 1 + 12;
    world.driver.chain(TX, &[Part { addr: 0x10_0000, len: long, write: false }]);
    let lies: [[u8; 12]; 5] = [
        // A checksum behind the frame's end, and one that would wrap.
        [1, 0, 0, 0, 0, 0, 41, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        // UDP fragmentation was not offered.
        [1, 3, 0, 0, 0, 1, 34, 0, 6, 0, 0, 0],
        // Segments without size, and without a checksum.
        [1, 1, 0, 0, 0, 0, 14, 0, 2, 0, 0, 0],
        [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    ];
    for header in lies {
        world.send(header, &arp());
    }
    world.turn();
    assert_eq!(world.driver.returned(TX).len(), 9);
    assert_eq!(world.driver.returned(RX), []);
    assert_eq!(world.count("link.malformed"), 9);
}

#[test]
fn the_longest_frame_is_taken() {
    let mut world = World::up();
    world.offer(8, BUFFER);
    let long = 14 + 65_535 + 12;
    world.driver.chain(TX, &[Part { addr: 0x20_0000, len: long, write: false }]);
    world.turn();
    assert_eq!(world.count("link.malformed"), 0);
    assert_eq!(world.count("refused.source-mac"), 1, "the stack has looked at it");
}

#[test]
fn a_guest_that_sends_nothing_else_does_not_keep_the_device() {
    let mut world = World::up();
    world.offer(1, BUFFER);
    for _ in 0..1000 {
        let addr = 0x20_0000;
        world.driver.chain(TX, &[Part { addr, len: 4, write: false }]);
    }
    world.turn();
    let taken = world.driver.returned(TX).len();
    assert!(taken < 200, "{taken}");
    assert!(world.is_awake());
}

#[test]
fn memory_that_changes_while_it_is_read_is_read_once() {
    let mut world = World::up();
    let memory = world.driver.memory.clone();
    let frame = arp();
    let parts = [world.part(&PLAIN), world.part(&frame)];
    let (header, addr) = (parts[0].addr, parts[1].addr);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let changing = thread::spawn(move || {
        use vm_memory::{Bytes, GuestAddress};
        let mut turn = 0u32;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            turn = turn.wrapping_add(0x9e37_79b9);
            // Flags, lengths, addresses: whatever is looked at.
            let offset = u64::from(turn >> 8) % 42;
            memory.write_obj(turn as u8, GuestAddress(addr + offset)).unwrap();
            memory.write_obj(turn as u8 & 1, GuestAddress(header)).unwrap();
            memory.write_slice(&frame, GuestAddress(addr)).unwrap();
        }
    });
    world.offer(400, 64);
    let mut replies = 0;
    for _ in 0..400 {
        world.driver.chain(TX, &parts);
        world.turn();
        for (_, reply) in world.received() {
            assert_eq!(&reply[..6], &GUEST_MAC);
            assert_eq!(reply[38..42], GUEST4.octets(), "only to whom it comes from");
            replies += 1;
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    changing.join().unwrap();
    assert!(replies > 0);
}
