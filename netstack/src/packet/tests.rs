#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn ipv4(options: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes.extend(options);
    bytes[0] = 0x40 | u8::try_from(bytes.len() / 4).unwrap();
    bytes.extend([0; 8]);
    let length = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes[9] = 17;
    change(&mut bytes);
    bytes
}

fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend([0; 32]);
    bytes.extend(body);
    bytes
}

/// R63, group 14: options that choose a route are refused, others are stepped
/// over, and padding of the frame is not payload.
#[test]
fn ipv4_options() {
    let parse = |options: &[u8]| Packet::parse(&ipv4(options, |_| ()));
    assert_eq!(parse(&[131, 4, 0, 0]), Err(Unfit::SourceRoute));
    assert_eq!(parse(&[1, 1, 1, 137, 3, 0, 0, 0]), Err(Unfit::SourceRoute));
    assert_eq!(parse(&[1, 1, 1, 0]).unwrap().header, 24);
    assert_eq!(parse(&[148, 4, 0, 0]).unwrap().header, 24, "router alert");
    assert_eq!(parse(&[148, 1, 131, 3]).unwrap().header, 24, "a length that covers nothing ends");
    let mut padded = ipv4(&[], |_| ());
    padded.extend([0xee; 18]);
    assert_eq!(Packet::parse(&padded).unwrap().payload(&padded), [0; 8]);
}

/// R63: parts are told from wholes.
#[test]
fn fragments() {
    let part = Packet::parse(&ipv4(&[], |b| b[6..8].copy_from_slice(&0x2003u16.to_be_bytes())));
    assert_eq!(part.unwrap().fragment, Some(Fragment { id: 0, offset: 24, more: true }));
    let whole = Packet::parse(&ipv4(&[], |b| b[6] = 0x40)).unwrap();
    assert_eq!((whole.fragment, whole.whole), (None, true));
    let part = Packet::parse(&ipv6(44, &[17, 0, 0, 0x19, 1, 2, 3, 4, 9, 9])).unwrap();
    assert_eq!(part.fragment, Some(Fragment { id: 0x0102_0304, offset: 24, more: true }));
    assert_eq!((part.protocol, part.header), (IpProtocol::Udp, 48));
}

/// Group 14: a walk of extension headers ends, within the packet.
#[test]
fn ipv6_extensions() {
    let hop = |next| [next, 0, 1, 4, 0, 0, 0, 0];
    let body = [hop(60).as_slice(), &hop(17), &[7; 8]].concat();
    let parsed = Packet::parse(&ipv6(0, &body)).unwrap();
    assert_eq!((parsed.protocol, parsed.header, parsed.length), (IpProtocol::Udp, 56, 64));
    let option = [17, 0, 0xc2, 4, 0, 0, 0, 0];
    assert_eq!(Packet::parse(&ipv6(0, &option)), Err(Unfit::Option(0xc2)));
    let routing = |left| [17, 0, 0, left, 0, 0, 0, 0];
    assert_eq!(Packet::parse(&ipv6(43, &routing(1))), Err(Unfit::SourceRoute));
    assert_eq!(Packet::parse(&ipv6(43, &routing(0))).unwrap().protocol, IpProtocol::Udp);
    assert_eq!(Packet::parse(&ipv6(0, &[17, 1, 0, 0])), Err(Unfit::Truncated));
    assert_eq!(Packet::parse(&ipv6(44, &[17, 0, 0])), Err(Unfit::Truncated));
    let chain = [hop(60); 6].concat();
    assert_eq!(Packet::parse(&ipv6(60, &chain)), Err(Unfit::Truncated));
}
