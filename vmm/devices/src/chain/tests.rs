#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT};

use super::*;
use crate::mock::{Driver, MEMORY, Part};
use crate::{DeviceError, RingError};

const NEXT: u32 = VRING_DESC_F_NEXT;
const INDIRECT: u32 = VRING_DESC_F_INDIRECT;
const SIZE: u16 = 16;

fn driver() -> Driver {
    Driver::with_sizes(&[SIZE])
}

fn read(addr: u64, len: u32) -> Part {
    Part { addr, len, write: false }
}

fn write(addr: u64, len: u32) -> Part {
    Part { addr, len, write: true }
}

fn walk(driver: &Driver, head: u16) -> Result<Chain, ChainError> {
    Chain::walk(&driver.queues[0], &driver.memory, head)
}

#[test]
fn a_chain_is_read_and_written_across_its_buffers() {
    let mut driver = driver();
    let (a, b) = (driver.bytes(b"hello "), driver.bytes(b"guest"));
    let out = driver.buffer(8);
    let parts = [read(a, 6), read(0, 0), read(b, 5), write(out, 3), write(out + 4, 4)];
    let head = driver.chain(0, &parts);
    let chain = walk(&driver, head).unwrap();

    let mut reader = chain.reader(&driver.memory);
    let mut text = [0; 8];
    reader.read_exact(&mut text).unwrap();
    assert_eq!((&text, reader.left()), (b"hello gu", 3));
    assert!(reader.read_exact(&mut [0; 4]).is_err());
    let mut rest = Vec::new();
    assert_eq!(reader.write_to(&mut rest, 100).unwrap(), 3);
    assert_eq!((rest.as_slice(), reader.left()), (&b"est"[..], 0));

    let mut writer = chain.writer(&driver.memory);
    assert!(writer.write_all(&[0; 8]).is_err());
    writer.skip(2).unwrap();
    assert_eq!(writer.read_from(&mut &b"XYZtoolong"[..], 4).unwrap(), 4);
    assert_eq!((writer.written(), writer.left()), (6, 1));
    assert_eq!(driver.read(out, 8), b"\0\0X\0YZt\0");
}

#[test]
fn looped_chain() {
    let mut driver = driver();
    driver.describe(0, 0, read(0, 1), NEXT, 1);
    driver.describe(0, 1, read(0, 1), NEXT, 0);
    assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::TooLong(SIZE));
    driver.describe(0, 2, read(0, 1), NEXT, 2);
    assert_eq!(walk(&driver, 2).unwrap_err(), ChainError::TooLong(SIZE));
}

#[test]
fn chain_as_long_as_the_queue_and_longer() {
    let mut driver = driver();
    for index in 0..SIZE {
        let last = index + 1 == SIZE;
        driver.describe(0, index, read(0, 1), if last { 0 } else { NEXT }, index + 1);
    }
    assert_eq!(walk(&driver, 0).unwrap().buffers.len(), usize::from(SIZE));
    let table = driver.buffer(32);
    driver.describe_at(table, 0, read(0, 1), NEXT, 1);
    driver.describe_at(table, 1, read(0, 1), 0, 0);
    driver.describe(0, SIZE - 1, read(table, 32), INDIRECT, 0);
    assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::TooLong(SIZE));
}

#[test]
fn overlapping_chains_and_buffers() {
    // Two heads share a tail, and its buffer is part of the other's: each is
    // a chain of its own, and both are returned.
    let mut driver = driver();
    let addr = driver.bytes(b"abcdef");
    driver.describe(0, 0, read(addr, 4), NEXT, 2);
    driver.describe(0, 1, read(addr + 2, 4), NEXT, 2);
    driver.describe(0, 2, write(addr + 1, 4), 0, 0);
    for (head, text) in [(0, b"abcd"), (1, b"cdef")] {
        let chain = walk(&driver, head).unwrap();
        let mut bytes = [0; 4];
        chain.reader(&driver.memory).read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, text);
        assert_eq!(chain.writer(&driver.memory).left(), 4);
    }
    driver.offer(0, 0);
    driver.offer(0, 1);
    let mut io = driver.io();
    while let Some(chain) = io[0].pop().unwrap() {
        io[0].push(&chain, 0).unwrap();
    }
    assert_eq!(driver.returned(0), [(0, 0), (1, 0)]);
}

#[test]
fn indirect_chain() {
    let mut driver = driver();
    let addr = driver.bytes(b"direct, indirect");
    let table = driver.buffer(64);
    driver.describe(0, 0, read(addr, 8), NEXT, 5);
    driver.describe(0, 5, read(table, 64), INDIRECT, 0);
    driver.describe_at(table, 0, read(addr + 8, 8), NEXT, 3);
    driver.describe_at(table, 3, write(addr, 2), 0, 0);
    let chain = walk(&driver, 0).unwrap();
    let mut bytes = [0; 16];
    chain.reader(&driver.memory).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"direct, indirect");
}

#[test]
fn indirect_loop() {
    let mut driver = driver();
    let table = driver.buffer(32);
    driver.describe(0, 0, read(table, 32), INDIRECT, 0);
    driver.describe_at(table, 0, read(0, 1), NEXT, 1);
    driver.describe_at(table, 1, read(0, 1), NEXT, 0);
    assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::TooLong(SIZE));
}

#[test]
fn indirect_overlapping_the_descriptor_table() {
    // The indirect table is the ring's own table, whose first descriptor is
    // the indirect one: nested, and refused.
    let mut driver = driver();
    let table = driver.queues[0].desc_table();
    driver.describe(0, 0, read(table, 32), INDIRECT, 0);
    assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::IndirectNested);
}

#[test]
fn indirect_nested() {
    let mut driver = driver();
    let table = driver.buffer(32);
    driver.describe(0, 0, read(table, 32), INDIRECT, 0);
    driver.describe_at(table, 0, read(table, 32), INDIRECT, 0);
    assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::IndirectNested);
    driver.describe_at(table, 0, read(0, 1), NEXT, 1);
    driver.describe_at(table, 1, read(table, 32), INDIRECT, 0);
    assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::IndirectNested);
}

#[test]
fn indirect_table_of_a_wrong_length() {
    let mut driver = driver();
    for len in [0, 1, 15, 17, 16 * (u32::from(SIZE) + 1), 16 * 65536, u32::MAX, u32::MAX - 15] {
        driver.describe(0, 0, read(0, len), INDIRECT, 0);
        assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::IndirectLength(len));
    }
    driver.describe(0, 0, read(0, 16), INDIRECT | NEXT, 1);
    assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::IndirectNext);
}

#[test]
fn table_outside_memory() {
    let mut driver = driver();
    for addr in [MEMORY as u64, MEMORY as u64 - 8, u64::MAX, u64::MAX - 15] {
        driver.describe(0, 0, read(addr, 16), INDIRECT, 0);
        assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::Table(addr));
    }
}

#[test]
fn address_outside_memory() {
    let mut driver = driver();
    let end = MEMORY as u64;
    for (addr, len) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX, 2), (0, end as u32 + 1)] {
        driver.describe(0, 0, write(addr, len), 0, 0);
        assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::Buffer { addr, len });
    }
    for (addr, len) in [(end - 1, 1), (end, 0), (u64::MAX, 0)] {
        driver.describe(0, 0, write(addr, len), 0, 0);
        let chain = walk(&driver, 0).unwrap();
        assert_eq!(chain.writer(&driver.memory).left(), len);
    }
}

#[test]
fn u32_max_length() {
    let mut driver = driver();
    driver.describe(0, 0, read(0, u32::MAX), 0, 0);
    let error = ChainError::Buffer { addr: 0, len: u32::MAX };
    assert_eq!(walk(&driver, 0).unwrap_err(), error);
}

#[test]
fn more_than_4_gib_in_a_chain() {
    let ranges = [(GuestAddress(0), MEMORY), (GuestAddress(1 << 32), 3 << 30)];
    let mut driver = driver();
    driver.memory = Memory::from_ranges(&ranges).unwrap();
    driver.describe(0, 0, write(1 << 32, 3 << 30), NEXT, 1);
    driver.describe(0, 1, write(1 << 32, 3 << 30), 0, 0);
    assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::Bytes);
}

#[test]
fn index_beyond_the_table() {
    let mut driver = driver();
    for head in [SIZE, u16::MAX] {
        let error = ChainError::Index { index: head, len: SIZE };
        assert_eq!(walk(&driver, head).unwrap_err(), error);
    }
    driver.describe(0, 0, read(0, 1), NEXT, SIZE);
    assert_eq!(walk(&driver, 0).unwrap_err(), ChainError::Index { index: SIZE, len: SIZE });
}

#[test]
fn readable_after_writable() {
    let mut driver = driver();
    let head = driver.chain(0, &[write(0, 1), read(0, 1)]);
    assert_eq!(walk(&driver, head).unwrap_err(), ChainError::Order);
}

#[test]
fn available_index_jump() {
    let mut driver = driver();
    driver.chain(0, &[read(0, 1)]);
    driver.advance(0, SIZE);
    let error = driver.io()[0].pop().unwrap_err();
    let DeviceError::Ring { queue: 0, source: RingError::Ring(_) } = error else {
        panic!("{error:?}")
    };
}

#[test]
fn ring_outside_memory() {
    let mut driver = driver();
    driver.queues[0].try_set_avail_ring_address(GuestAddress(MEMORY as u64)).unwrap();
    assert!(driver.io()[0].pop().is_err());
}
