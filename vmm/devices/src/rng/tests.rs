#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::mock::{Driver, Part};

fn started() -> (Rng, Driver) {
    let mut rng = Rng::new();
    rng.start(0).unwrap();
    let driver = Driver::new(&rng);
    (rng, driver)
}

fn write(addr: u64, len: u32) -> Part {
    Part { addr, len, write: true }
}

#[test]
fn buffers_are_filled_and_the_driver_is_interrupted() {
    let (mut rng, mut driver) = started();
    let addr = driver.buffer(1000);
    driver.chain(0, &[write(addr, 300), write(addr + 300, 700)]);
    driver.chain(0, &[write(addr, 0)]);
    let signals = rng.kicked(0, &mut driver.io()).unwrap();
    assert!(signals.has(0));
    assert_eq!(driver.returned(0), [(0, 1000), (2, 0)]);
    for part in driver.read(addr, 1000).chunks(100) {
        assert!(part.iter().any(|b| *b != 0));
    }
    assert_eq!(rng.kicked(0, &mut driver.io()).unwrap(), Signals::default());
}

#[test]
fn a_huge_request_is_answered_in_part() {
    let (mut rng, mut driver) = started();
    driver.chain(0, &[write(0x20_0000, 1 << 20)]);
    rng.kicked(0, &mut driver.io()).unwrap();
    assert_eq!(driver.returned(0), [(0, MAX_REQUEST)]);
}

#[test]
fn a_readable_buffer_is_returned_untouched() {
    let (mut rng, mut driver) = started();
    let addr = driver.bytes(b"mine");
    driver.chain(0, &[Part { addr, len: 4, write: false }]);
    rng.kicked(0, &mut driver.io()).unwrap();
    assert_eq!(driver.returned(0), [(0, 0)]);
    assert_eq!(driver.read(addr, 4), b"mine");
}

#[test]
fn a_bad_chain_stops_the_device() {
    let (mut rng, mut driver) = started();
    driver.chain(0, &[write(u64::MAX, u32::MAX)]);
    assert!(rng.kicked(0, &mut driver.io()).is_err());
    assert_eq!(driver.returned(0), []);
}

#[test]
fn interrupts_follow_the_event_index() {
    use virtio_queue::QueueT;
    use vm_memory::{Bytes, GuestAddress};
    let (mut rng, mut driver) = started();
    driver.queues[0].set_event_idx(true);
    let used_event = GuestAddress(driver.queues[0].avail_ring() + 4 + 2 * 1024);
    let avail_event = GuestAddress(driver.queues[0].used_ring() + 4 + 8 * 1024);
    driver.memory.write_obj(1u16, used_event).unwrap();
    driver.chain(0, &[write(0x20_0000, 8)]);
    assert!(!rng.kicked(0, &mut driver.io()).unwrap().has(0), "not before the second");
    driver.chain(0, &[write(0x20_0000, 8)]);
    assert!(rng.kicked(0, &mut driver.io()).unwrap().has(0));
    assert_eq!(driver.memory.read_obj::<u16>(avail_event).unwrap(), 2, "asks for the next kick");
}
