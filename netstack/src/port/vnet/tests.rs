#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn header(flags: u8, gso: u8, size: u16, start: u16, offset: u16) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = flags;
    bytes[1] = gso;
    bytes[4..6].copy_from_slice(&size.to_le_bytes());
    bytes[6..8].copy_from_slice(&start.to_le_bytes());
    bytes[8..10].copy_from_slice(&offset.to_le_bytes());
    bytes
}

/// Group 14: offloads that cannot be true of their frame are refused, and the
/// edge of what can be true is taken.
#[test]
fn lies_about_offloads() {
    let frame = [0u8; 54];
    let partial = |start, offset| Some(Partial { start, offset });
    let rows = [
        ("none", header(0, 0, 0, 0, 0), Ok(Offload::default())),
        ("size without kind", header(0, 0, 9, 0, 0), Ok(Offload::default())),
        (
            "last two bytes",
            header(1, 0, 0, 34, 18),
            Ok(Offload { checksum: partial(34, 18), segments: None }),
        ),
        (
            "one byte out",
            header(1, 0, 0, 34, 19),
            Err(Lie::Checksum { start: 34, offset: 19, length: 54 }),
        ),
        (
            "far out",
            header(1, 0, 0, 0xffff, 0xffff),
            Err(Lie::Checksum { start: 0xffff, offset: 0xffff, length: 54 }),
        ),
        ("size 0", header(1, 1, 0, 34, 16), Err(Lie::Segments { size: 0, checksum: true })),
        ("no checksum", header(0, 1, 9, 34, 16), Err(Lie::Segments { size: 9, checksum: false })),
        ("UFO", header(1, 3, 9, 34, 16), Err(Lie::Kind(3))),
        ("ECN", header(1, 0x81, 9, 34, 16), Err(Lie::Kind(0x81))),
    ];
    for (name, header, expected) in rows {
        assert_eq!(parse(&header, &frame), expected, "{name}");
    }
    assert_eq!(parse(&[0; 11], &frame), Err(Lie::Short));
}

#[test]
fn what_is_emitted_is_parsed_back() {
    let offload = Offload {
        checksum: Some(Partial { start: 34, offset: 16 }),
        segments: Some(Segments { kind: SegmentKind::Tcp6, size: 1440, headers: 0 }),
    };
    assert_eq!(parse(&emit(offload), &[0; 100]), Ok(offload));
    assert_eq!(parse(&emit(Offload::default()), &[]), Ok(Offload::default()));
}
