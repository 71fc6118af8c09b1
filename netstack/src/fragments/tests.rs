#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn packet(id: u32, offset: usize, more: bool) -> (Packet, Fragment) {
    let fragment = Fragment { id, offset, more };
    let packet = Packet {
        source: [10, 0, 0, 2].into(),
        destination: [192, 0, 2, 1].into(),
        protocol: IpProtocol::Udp,
        hops: 64,
        whole: false,
        header: 20,
        length: 0,
        fragment: Some(fragment),
    };
    (packet, fragment)
}

fn take(all: &mut Fragments, id: u32, offset: usize, more: bool, bytes: &[u8]) -> Option<Vec<u8>> {
    let (packet, part) = packet(id, offset, more);
    all.take(&packet, part, bytes, Instant::from_secs(100))
}

/// R63: whatever the order, the packet comes out once, whole.
#[test]
fn parts_make_a_whole_in_any_order() {
    let bytes: Vec<u8> = (0..20).collect();
    let parts = [(0, true, &bytes[..8]), (8, true, &bytes[8..16]), (16, false, &bytes[16..])];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let mut all = Fragments::default();
        let mut found: Vec<_> = order
            .map(|n: usize| take(&mut all, 7, parts[n].0, parts[n].1, parts[n].2))
            .into_iter()
            .collect();
        let last = found.pop().unwrap().unwrap();
        assert_eq!(&last[20..], bytes);
        assert!(found.iter().all(Option::is_none));
        assert_eq!((all.bytes(), all.waiting.len()), (0, 0));
    }
}

/// R62: the largest packet of each family, and none that is larger by one.
#[test]
fn the_largest_packets() {
    let v6: (IpAddr, IpAddr) = ([0xfd; 16].into(), [0x20; 16].into());
    let v4: (IpAddr, IpAddr) = ([10, 0, 0, 2].into(), [192, 0, 2, 1].into());
    for ((source, destination), most) in [(v4, 65_515), (v6, 65_535)] {
        for (size, fits) in [(most, true), (most + 1, false)] {
            let bytes: Vec<u8> = (0..size).map(|n: usize| n.to_le_bytes()[0]).collect();
            let mut all = Fragments::default();
            let mut whole = None;
            for (number, piece) in bytes.chunks(1_400).enumerate() {
                let offset = number * 1_400;
                let (packet, part) = packet(1, offset, offset + piece.len() < size);
                let packet = Packet { source, destination, ..packet };
                whole = all.take(&packet, part, piece, Instant::from_secs(100));
            }
            assert_eq!(whole.is_some(), fits, "{size} bytes from {source}");
            if let Some(whole) = whole {
                let packet = Packet::parse(&whole).unwrap();
                assert_eq!(packet.payload(&whole), bytes);
            }
        }
    }
}

/// Group 14, teardrop: what overlaps is dropped, and what comes of it later.
#[test]
fn overlaps_are_dropped_as_a_whole() {
    for (offset, more, length) in [(8, true, 8), (0, true, 16), (0, true, 8), (8, false, 4)] {
        let mut all = Fragments::default();
        assert_eq!(take(&mut all, 1, 0, true, &[1; 16]), None);
        assert_eq!(take(&mut all, 1, offset, more, &vec![2; length]), None);
        assert_eq!(take(&mut all, 1, 16, false, &[3; 4]), None, "at {offset}");
        assert_eq!(all.bytes(), 0);
    }
}

/// R63, group 14: an end before what came, two ends, a part past the largest
/// packet, and one that ends in the middle of a unit.
#[test]
fn lies_about_the_end() {
    let mut all = Fragments::default();
    assert_eq!(take(&mut all, 1, 16, true, &[1; 8]), None);
    assert_eq!(take(&mut all, 1, 0, false, &[1; 8]), None);
    assert_eq!(take(&mut all, 1, 8, true, &[1; 8]), None);
    assert_eq!(take(&mut all, 2, 65_528, false, &[1; 8]), None);
    assert_eq!(take(&mut all, 3, 0, true, &[1; 7]), None);
    assert_eq!(take(&mut all, 4, 0, true, &[]), None);
    assert_eq!(all.bytes(), 0);
}

/// Group 14, first parts only: memory is bounded, in number, bytes and time.
#[test]
fn what_waits_is_bounded() {
    let mut all = Fragments::default();
    for id in 0..100_000 {
        take(&mut all, id, 0, true, &vec![0; 60_000]);
        assert!(all.bytes() <= BYTES && all.waiting.len() <= WAITING);
    }
    for id in 0..1_000 {
        take(&mut all, id, 8, true, &[0; 8]);
    }
    assert_eq!(all.waiting.len(), WAITING);
    let (packet, part) = packet(5_000, 0, true);
    all.take(&packet, part, &[0; 8], Instant::from_secs(106));
    assert_eq!(all.waiting.len(), 1);
}
