//! Any bytes as a queue's descriptors, rings and indirect tables: walking
//! them ends, stays in guest memory and returns only what was offered.
#![no_main]

mod input;

use input::Input;
use libfuzzer_sys::fuzz_target;
use sandbox_devices::mock::Driver;

/// Queue size: small, so that loops and overlaps are likely.
const SIZE: u16 = 8;
/// Descriptor table, available ring, and a page for indirect tables.
const TABLE: usize = SIZE as usize * 16;
const RING: usize = 4 + SIZE as usize * 2;
const INDIRECT: u64 = 0x1000;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut driver = Driver::with_sizes(&[SIZE]);
    driver.write(driver.available_ring(0), input.bytes(RING));
    driver.write(driver.descriptors(0), input.bytes(TABLE));
    driver.write(INDIRECT, input.bytes(4096));
    let memory = driver.memory.clone();
    let mut io = driver.io();
    let mut taken = 0;
    while let Ok(Some(chain)) = io[0].pop() {
        let mut reader = chain.reader(&memory);
        let mut first = [0; 44];
        let _ = reader.read_exact(&mut first);
        let left = reader.left();
        let mut rest = Vec::new();
        let read = reader.write_to(&mut rest, 1 << 20).unwrap();
        assert_eq!((read as usize, reader.left()), (rest.len(), left - read));
        let mut writer = chain.writer(&memory);
        let _ = writer.skip(44);
        let room = writer.left();
        let written = writer.read_from(&mut &[7; 4096][..], 4096).unwrap();
        assert_eq!((written, writer.left()), (room.min(4096), room - written));
        io[0].push(&chain, writer.written()).unwrap();
        taken += 1;
        assert!(taken <= SIZE, "more chains than the ring has");
    }
    let _ = io[0].rearm();
    let _ = io[0].wants_signal();
});
