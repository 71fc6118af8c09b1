#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{self, Write};
use std::time::Duration;

use super::*;

/// A packet of a capture: its time, frame, length on the wire, and comment.
#[derive(Debug, PartialEq)]
struct Packet {
    nanos: u128,
    frame: Vec<u8>,
    length: u32,
    comment: String,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Reads a capture as the format's specification has it.
fn read(mut bytes: &[u8]) -> Vec<Packet> {
    let mut packets = vec![];
    let mut number = 0;
    while !bytes.is_empty() {
        let (kind, length) = (word(bytes, 0), word(bytes, 4) as usize);
        assert_eq!(length % 4, 0);
        assert_eq!(word(bytes, length - 4) as usize, length, "both lengths are the same");
        let body = &bytes[8..length - 4];
        match number {
            0 => assert_eq!((kind, word(body, 0)), (0x0a0d_0d0a, 0x1a2b_3c4d)),
            1 => assert_eq!((kind, word(body, 0), word(body, 4)), (1, 1, 262_144)),
            _ => packets.push(packet(kind, body)),
        }
        bytes = &bytes[length..];
        number += 1;
    }
    assert!(number >= 2);
    packets
}

fn packet(kind: u32, body: &[u8]) -> Packet {
    assert_eq!((kind, word(body, 0)), (6, 0));
    let nanos = u128::from(word(body, 4)) << 32 | u128::from(word(body, 8));
    let kept = word(body, 12) as usize;
    let mut options = &body[20 + kept.next_multiple_of(4)..];
    let mut comment = String::new();
    while word(options, 0) != 0 {
        let (code, length) = (word(options, 0) & 0xffff, word(options, 0) as usize >> 16);
        if code == 1 {
            comment = String::from_utf8(options[4..4 + length].to_vec()).unwrap();
        }
        options = &options[4 + length.next_multiple_of(4)..];
    }
    let frame = body[20..20 + kept].to_vec();
    Packet { nanos, frame, length: word(body, 16), comment }
}

#[test]
fn frames_come_back_with_their_comments() {
    let mut bytes = vec![];
    let mut writer = Writer::new(&mut bytes, "pod web-1").unwrap();
    let time = Duration::new(1_767_323_045, 678_901_234);
    let mut size = 0;
    for (length, comment) in [(60, "allow flow=12 rule=api"), (61, ""), (0, "é"), (63, "drop")] {
        size += writer.frame(time, Way::Out, &vec![7; length], comment).unwrap();
    }
    let packets = read(&bytes);
    assert!(size < bytes.len());
    assert_eq!(packets.len(), 4);
    assert_eq!(packets[0].nanos, time.as_nanos());
    assert_eq!(packets[0].frame, vec![7; 60]);
    assert_eq!(packets[0].comment, "allow flow=12 rule=api");
    assert_eq!((packets[1].length, packets[1].comment.as_str()), (61, ""));
    assert_eq!(packets[2].comment, "é");
}

#[test]
fn long_frames_and_comments_are_cut() {
    let mut bytes = vec![];
    let mut writer = Writer::new(&mut bytes, "x").unwrap();
    let comment = "é".repeat(MAX_COMMENT);
    writer.frame(Duration::ZERO, Way::In, &vec![1; MAX_SNAP + 5], &comment).unwrap();
    let packets = read(&bytes);
    assert_eq!(packets[0].frame.len(), MAX_SNAP);
    assert_eq!(packets[0].length as usize, MAX_SNAP + 5);
    assert_eq!(packets[0].comment, "é".repeat(MAX_COMMENT / 2));
}

/// A file in memory.
#[derive(Debug, Default)]
struct Memory(Vec<u8>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Segment for Memory {
    fn restart(&mut self) -> io::Result<()> {
        self.0.clear();
        Ok(())
    }
}

#[test]
fn a_ring_keeps_the_last_frames_below_its_cap() {
    let cap = 8192;
    let mut ring = Ring::new(Memory::default(), Memory::default(), "x", cap).unwrap();
    for number in 0..1000_u32 {
        ring.frame(Duration::ZERO, Way::In, &number.to_le_bytes(), "").unwrap();
        let (current, other) = ring.segments();
        assert!(current.0.len() + other.0.len() <= cap);
    }
    let (current, other) = ring.segments();
    let packets: Vec<_> = read(&other.0).into_iter().chain(read(&current.0)).collect();
    let numbers: Vec<_> = packets.iter().map(|packet| word(&packet.frame, 0)).collect();
    let first = numbers[0];
    assert_eq!(numbers, (first..1000).collect::<Vec<_>>(), "none is missing in between");
    assert!(numbers.len() > 50, "half of the cap is used: {}", numbers.len());
}

#[test]
fn a_ring_works_with_files() {
    let open = || tempfile().unwrap();
    let mut ring = Ring::new(open(), open(), "x", 4096).unwrap();
    for _ in 0..200 {
        ring.frame(Duration::ZERO, Way::Out, &[1; 64], "deny").unwrap();
    }
    let (current, other) = ring.segments();
    for file in [current, other] {
        let length = file.metadata().unwrap().len();
        assert!(length > 0 && length <= 2048, "{length}");
    }
}

/// A file without a name.
fn tempfile() -> io::Result<std::fs::File> {
    let path = std::env::temp_dir().join(format!(
        "sandbox-pcap-{}-{:?}-{}",
        std::process::id(),
        std::thread::current().id(),
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
    ));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

mod property {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_written_can_be_read(
            frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), ".{0,60}"), 0..20)
        ) {
            let mut bytes = vec![];
            let mut writer = Writer::new(&mut bytes, "x").unwrap();
            for (frame, comment) in &frames {
                writer.frame(Duration::ZERO, Way::Out, frame, comment).unwrap();
            }
            let read: Vec<_> = read(&bytes).into_iter().map(|p| (p.frame, p.comment)).collect();
            prop_assert_eq!(read, frames);
        }
    }
}
