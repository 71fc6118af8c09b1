#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::mock::{Driver, Part};

const REQUESTS: usize = 1;
const GETATTR: u32 = 3;
const READ: u32 = 15;
const FORGET: u32 = 2;
const INIT: u32 = 26;

fn device() -> Fs {
    let own_fds = File::open("/proc/self/fd").unwrap();
    let mut fs = Fs::new("share", own_fds.into(), 1024).unwrap();
    fs.start(0).unwrap();
    fs
}

fn driver() -> Driver {
    Driver::with_sizes(&[1024; 2])
}

/// A request about the root directory.
fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; REQUEST_HEADER];
    let len = (REQUEST_HEADER + body.len()) as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4..8].copy_from_slice(&opcode.to_le_bytes());
    bytes[8..16].copy_from_slice(&77u64.to_le_bytes());
    bytes[16..24].copy_from_slice(&1u64.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn init() -> Vec<u8> {
    let words: [u32; 4] = [7, 38, 4096, 0];
    let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    body.resize(64, 0);
    request(INIT, &body)
}

/// Gives the device a request; returns where the reply goes.
fn offer(driver: &mut Driver, bytes: &[u8], reply: u32) -> u64 {
    let (addr, len) = (driver.bytes(bytes), bytes.len() as u32);
    let to = driver.buffer(reply);
    let mut parts = vec![Part { addr, len, write: false }];
    if reply > 0 {
        parts.push(Part { addr: to, len: reply, write: true });
    }
    driver.chain(REQUESTS, &parts);
    to
}

fn reply_header(driver: &Driver, addr: u64) -> (u32, i32, u64) {
    let bytes = driver.read(addr, REPLY_HEADER as usize);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    (word(0), word(4) as i32, u64::from_le_bytes(bytes[8..16].try_into().unwrap()))
}

#[test]
fn the_config_space_holds_the_tag_and_one_request_queue() {
    let fs = device();
    assert_eq!(&fs.config()[..6], b"share\0");
    assert_eq!(fs.config()[36..], [1, 0, 0, 0]);
}

#[test]
fn a_tag_that_does_not_fit_is_refused() {
    for tag in ["", &"x".repeat(TAG + 1)] {
        let own_fds = File::open("/proc/self/fd").unwrap();
        assert!(matches!(Fs::new(tag, own_fds.into(), 1024), Err(FsError::Tag(_))));
    }
    let own_fds = File::open("/proc/self/fd").unwrap();
    assert!(Fs::new(&"x".repeat(TAG), own_fds.into(), 1024).is_ok());
}

#[test]
fn requests_are_answered_on_their_queue() {
    let (mut fs, mut driver) = (device(), driver());
    offer(&mut driver, &init(), 256);
    let attributes = offer(&mut driver, &request(GETATTR, &[0; 16]), 256);
    let unknown = offer(&mut driver, &request(9999, &[]), 256);
    let signals = fs.kicked(REQUESTS, &mut driver.io()).unwrap();
    assert!(signals.has(REQUESTS) && !signals.has(0));
    let returned = driver.returned(REQUESTS);
    assert_eq!(returned.len(), 3);
    assert_eq!(reply_header(&driver, attributes), (returned[1].1, 0, 77));
    assert!(returned[1].1 > REPLY_HEADER);
    assert_eq!(reply_header(&driver, unknown), (REPLY_HEADER, -libc::ENOSYS, 77));
}

#[test]
fn a_request_without_a_reply_needs_no_room_for_one() {
    let (mut fs, mut driver) = (device(), driver());
    offer(&mut driver, &init(), 256);
    offer(&mut driver, &request(FORGET, &[0; 8]), 0);
    fs.kicked(REQUESTS, &mut driver.io()).unwrap();
    assert_eq!(driver.returned(REQUESTS)[1].1, 0);
}

#[test]
fn requests_that_cannot_be_answered_stop_the_device() {
    for reply in [0, 1, REPLY_HEADER - 1] {
        let (mut fs, mut driver) = (device(), driver());
        offer(&mut driver, &request(READ, &[0; 40]), reply);
        let error = fs.kicked(REQUESTS, &mut driver.io()).unwrap_err();
        assert!(matches!(error, DeviceError::Request { queue: REQUESTS, .. }), "{error:?}");
    }
    for len in [0, 1, REQUEST_HEADER - 1] {
        let (mut fs, mut driver) = (device(), driver());
        offer(&mut driver, &vec![0; len], 256);
        assert!(fs.kicked(REQUESTS, &mut driver.io()).is_err(), "{len}");
    }
}

#[test]
fn a_looped_chain_stops_the_device() {
    let (mut fs, mut driver) = (device(), driver());
    driver.describe(REQUESTS, 0, Part { addr: 0, len: 64, write: false }, 1, 0);
    driver.offer(REQUESTS, 0);
    let error = fs.kicked(REQUESTS, &mut driver.io()).unwrap_err();
    assert!(matches!(error, DeviceError::Ring { queue: REQUESTS, .. }), "{error:?}");
}
