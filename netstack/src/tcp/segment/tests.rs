#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

const GUEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn segment(flags: u8, options: &[u8], payload: usize) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[0..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
    bytes[4..8].copy_from_slice(&100u32.to_be_bytes());
    bytes[8..12].copy_from_slice(&7u32.to_be_bytes());
    bytes[12] = u8::try_from((HEADER + options.len()) / 4).unwrap() << 4;
    bytes[13] = flags;
    bytes.extend(options);
    bytes.extend(vec![0; payload]);
    bytes
}

#[test]
fn headers_cut_short_or_too_small_are_nothing() {
    let whole = segment(SYN, &[2, 4, 5, 180], 3);
    assert_eq!(Segment::parse(&whole).unwrap().payload, 3);
    for length in 0..24 {
        assert_eq!(Segment::parse(&whole[..length]), None, "{length}");
    }
    let mut small = whole;
    small[12] = 4 << 4;
    assert_eq!(Segment::parse(&small), None);
}

/// Group 1: a reset is one that the sender's TCP will believe.
#[test]
fn resets_answer_what_was_sent() {
    let answer = |flags, payload| {
        let bytes = Segment::parse(&segment(flags, &[], payload)).unwrap().reset(GUEST, REMOTE)?;
        let tcp = &bytes[20..];
        assert!(verify(REMOTE, GUEST, tcp));
        let reset = Segment::parse(tcp).unwrap();
        assert_eq!((reset.from, reset.to), (80, 0x9c40));
        Some((reset.flags, reset.seq, reset.ack))
    };
    assert_eq!(answer(SYN, 0), Some((RST | ACK, 0, 101)));
    assert_eq!(answer(SYN, 5), Some((RST | ACK, 0, 106)));
    assert_eq!(answer(ACK, 5), Some((RST, 7, 0)));
    assert_eq!(answer(FIN, 5), Some((RST | ACK, 0, 106)));
    assert_eq!(answer(RST, 0), None);
}

/// Group 7: an MSS is lowered to the link's, and junk among the options ends
/// the walk.
#[test]
fn options_of_a_syn() {
    let read = |options: &[u8]| {
        let mut bytes = segment(SYN, options, 0);
        let found = clamp_options(&mut bytes, 1460);
        (found.mss, found.scale, bytes[HEADER..].to_vec())
    };
    let mss = |n: u16| [2, 4, n.to_be_bytes()[0], n.to_be_bytes()[1]];
    assert_eq!(read(&mss(65495)), (Some(1460), None, mss(1460).to_vec()));
    assert_eq!(read(&mss(536)).0, Some(536));
    assert_eq!(read(&mss(0)).0, None);
    assert_eq!(
        read(&[1, 3, 3, 14, 2, 4, 4, 0]),
        (Some(1024), Some(14), vec![1, 3, 3, 14, 2, 4, 4, 0])
    );
    assert_eq!(read(&[9, 0, 3, 3, 14, 0, 0, 0]).1, None, "a length of 0");
    assert_eq!(read(&[9, 200, 3, 3, 14, 0, 0, 0]).1, None, "a length past the end");
    assert_eq!(read(&[0, 3, 3, 14]).1, None, "behind the end");
    assert_eq!(read(&[1, 1, 1, 2]).0, None, "a kind without length");
    assert_eq!(clamp_options(&mut [0; 5], 1460), Options::default());
}
