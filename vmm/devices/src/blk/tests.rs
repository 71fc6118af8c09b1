#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::thread;

use sandbox_vm_spec::disks::{MAX_DISKS, SECTOR, SERIAL, SPAN, start};

use super::*;
use crate::mock::{Driver, Part};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// Length of the disks here.
const BYTES: u64 = 1 << 20;

struct Bench {
    blk: Blk,
    driver: Driver,
}

impl Bench {
    fn new() -> Self {
        let (blk, _) = Blk::new().unwrap();
        let driver = Driver::new(&blk);
        Self { blk, driver }
    }

    fn with_disk(number: u16, read_only: bool) -> (Self, File) {
        let mut bench = Self::new();
        let mut file = tempfile::tempfile().unwrap();
        let pattern: Vec<u8> = (0..BYTES).map(|at| (at / SECTOR) as u8 | 1).collect();
        file.write_all(&pattern).unwrap();
        let disk = Disk::new(file.try_clone().unwrap(), BYTES, read_only).unwrap();
        bench.blk.insert(number, disk);
        (bench, file)
    }

    /// Sends a request, `data` being its readable part beside the header and
    /// `room` the bytes of its writable one beside the status.
    fn ask(&mut self, kind: u32, byte: u64, data: &[u8], room: u32) -> (u8, Vec<u8>) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&(byte / SECTOR).to_le_bytes());
        let header = self.driver.bytes(&header);
        let data_at = self.driver.bytes(data);
        let answer = self.driver.buffer(room + 1);
        let part = |addr, len, write| Part { addr, len, write };
        let mut parts = vec![part(header, 16, false)];
        if !data.is_empty() {
            // In two, so that pieces are put together.
            let half = data.len() as u32 / 2;
            parts.push(part(data_at, half, false));
            parts.push(part(data_at + u64::from(half), data.len() as u32 - half, false));
        }
        parts.push(part(answer, room + 1, true));
        let head = self.driver.chain(0, &parts);
        let signals = self.blk.kicked(0, &mut self.driver.io()).unwrap();
        assert!(signals.has(0));
        assert_eq!(self.driver.returned(0), [(head, room + 1)]);
        let mut answer = self.driver.read(answer, room as usize + 1);
        let status = answer.pop().unwrap();
        (status, answer)
    }

    fn erase(&mut self, kind: u32, byte: u64, sectors: u32, flags: u32) -> u8 {
        let mut segment = (byte / SECTOR).to_le_bytes().to_vec();
        segment.extend(sectors.to_le_bytes());
        segment.extend(flags.to_le_bytes());
        self.ask(kind, 0, &segment, 0).0
    }
}

fn contents(file: &mut File) -> Vec<u8> {
    let mut contents = vec![];
    file.rewind().unwrap();
    file.read_to_end(&mut contents).unwrap();
    contents
}

#[test]
fn a_disk_is_read_and_written_where_it_is() {
    let (mut bench, mut file) = Bench::with_disk(3, false);
    let (status, data) = bench.ask(IN, start(3) + 5 * SECTOR, &[], 1024);
    assert_eq!(status, OK);
    assert_eq!(data, [[5; 512], [7; 512]].concat());
    let new = [vec![1; 700], vec![2; 324]].concat();
    assert_eq!(bench.ask(OUT, start(3) + 8 * SECTOR, &new, 0).0, OK);
    assert_eq!(bench.ask(FLUSH, 0, &[], 0).0, OK);
    assert_eq!(contents(&mut file)[8 * 512..10 * 512], new);
    assert_eq!(bench.ask(IN, start(3) + 8 * SECTOR, &[], 1024), (OK, new));
}

#[test]
fn nothing_is_reached_beside_a_disk() {
    let (mut bench, mut file) = Bench::with_disk(2, false);
    let before = contents(&mut file);
    let end = start(2) + BYTES;
    for byte in [start(1), start(2) - 512, end, end - 512, start(3), start(MAX_DISKS), u64::MAX] {
        assert_eq!(bench.ask(IN, byte, &[], 1024).0, IOERR, "{byte:#x}");
        assert_eq!(bench.ask(OUT, byte, &[9; 1024], 0).0, IOERR, "{byte:#x}");
        assert_eq!(bench.erase(WRITE_ZEROES, byte, 2, 0), IOERR, "{byte:#x}");
        assert_eq!(bench.erase(DISCARD, byte, 2, 0), IOERR, "{byte:#x}");
    }
    assert_eq!(contents(&mut file), before);
}

/// Where the kernel looks for a partition table, and finds none.
#[test]
fn before_the_first_disk_are_zeros() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(IN, 0, &[], 8192), (OK, vec![0; 8192]));
    assert_eq!(bench.ask(OUT, 0, &[1; 512], 0).0, IOERR);
}

#[test]
fn a_read_only_disk_is_not_changed() {
    let (mut bench, mut file) = Bench::with_disk(1, true);
    let before = contents(&mut file);
    assert_eq!(bench.ask(OUT, start(1), &[9; 512], 0).0, IOERR);
    assert_eq!(bench.erase(WRITE_ZEROES, start(1), 1, 0), IOERR);
    assert_eq!(bench.erase(DISCARD, start(1), 1, 0), IOERR);
    assert_eq!(contents(&mut file), before);
    assert_eq!(bench.ask(IN, start(1), &[], 512).0, OK);
}

#[test]
fn discarded_space_is_given_back_and_zeros_are_zeros() {
    let (mut bench, mut file) = Bench::with_disk(1, false);
    file.sync_all().unwrap();
    let before = file.metadata().unwrap().blocks();
    assert_eq!(bench.erase(DISCARD, start(1) + BYTES / 2, (BYTES / 2 / SECTOR) as u32, 0), OK);
    let after = file.metadata().unwrap();
    assert!(after.blocks() < before, "{} of {before} blocks are left", after.blocks());
    assert_eq!(after.len(), BYTES);
    for (at, flags) in [(0, 0), (4096, 1)] {
        assert_eq!(bench.erase(WRITE_ZEROES, start(1) + at, 8, flags), OK);
        let at = at as usize;
        assert_eq!(contents(&mut file)[at..at + 4096], [0; 4096]);
    }
    assert_ne!(contents(&mut file)[8192], 0);
}

#[test]
fn the_serial_number_is_told() {
    let (status, id) = Bench::new().ask(GET_ID, 0, &[], 20);
    assert_eq!(status, OK);
    assert_eq!(&id[..SERIAL.len()], SERIAL.as_bytes());
    assert!(id[SERIAL.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn what_is_unknown_is_said_to_be() {
    let (mut bench, _) = Bench::with_disk(1, false);
    assert_eq!(bench.ask(99, 0, &[], 0).0, UNSUPP);
    assert_eq!(bench.erase(DISCARD, start(1), 1, 1), UNSUPP);
    assert_eq!(bench.erase(WRITE_ZEROES, start(1), 1, 2), UNSUPP);
    assert_eq!(bench.ask(DISCARD, 0, &[0; 32], 0).0, UNSUPP);
    assert_eq!(bench.erase(DISCARD, start(1), u32::MAX, 0), IOERR);
    assert_eq!(bench.ask(IN, start(1), &[], 100).0, IOERR);
    assert_eq!(bench.ask(OUT, start(1), &[0; 100], 0).0, IOERR);
    assert_eq!(bench.ask(GET_ID, 0, &[], 10).0, IOERR);
}

/// A file that has become shorter than the disk.
#[test]
fn a_truncated_file_is_an_error_of_its_disk() {
    let (mut bench, file) = Bench::with_disk(1, false);
    file.set_len(1024).unwrap();
    assert_eq!(bench.ask(IN, start(1) + 512, &[], 1024).0, IOERR);
    assert_eq!(bench.ask(IN, start(1) + 512, &[], 512).0, OK);
}

#[test]
fn requests_without_header_or_status_need_a_reset() {
    for (header, room) in [(15, 1), (16, 0)] {
        let mut bench = Bench::new();
        let addr = bench.driver.buffer(64);
        let mut parts = vec![Part { addr, len: header, write: false }];
        if room > 0 {
            parts.push(Part { addr: addr + 32, len: room, write: true });
        }
        bench.driver.chain(0, &parts);
        let error = bench.blk.kicked(0, &mut bench.driver.io()).unwrap_err();
        assert!(matches!(error, DeviceError::Request { queue: 0, .. }), "{error:?}");
    }
}

#[test]
fn disks_come_and_go_by_the_handle() {
    let (mut blk, handle) = Blk::new().unwrap();
    let disk = || Disk::new(tempfile::tempfile().unwrap(), BYTES, true).unwrap();
    let (first, second) = (disk(), disk());
    let asking = thread::spawn(move || {
        let answers =
            [handle.attach(1, first), handle.attach(1, second), handle.detach(1), handle.detach(1)];
        drop(handle);
        answers
    });
    let (_, _, token) = blk.standing()[0];
    while !asking.is_finished() {
        blk.ready(token, EventSet::IN, &mut []).unwrap();
        thread::yield_now();
    }
    let answers = asking.join().unwrap();
    assert_eq!(answers, [Ok(()), Err(DiskError::Attached(1)), Ok(()), Err(DiskError::Missing(1))]);
    let (blk, handle) = Blk::new().unwrap();
    drop(blk);
    assert_eq!(handle.detach(1), Err(MailboxError::Closed.into()));
}

#[test]
fn the_device_is_as_large_as_all_disks() {
    let (blk, _) = Blk::new().unwrap();
    let mut capacity = [0; 8];
    capacity.copy_from_slice(&blk.config()[..8]);
    assert_eq!(u64::from_le_bytes(capacity) * SECTOR, start(MAX_DISKS) + SPAN);
}
