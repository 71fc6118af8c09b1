#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::checksum;

const MAC: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0, 0x01]);
const OTHER_MAC: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0, 0x02]);
const IP: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
const OTHER_IP: Ipv4Address = Ipv4Address::new(10, 0, 0, 3);
const IP6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const OTHER_IP6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3);

fn link() -> Link {
    Link::new(MAC, &[IP], &[IP6])
}

fn frame(source: EthernetAddress, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend(source.0);
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A packet of `data` with a right checksum, changed by `change` before that.
fn ipv4(source: Ipv4Address, data: usize, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0; 20 + data];
    let total = u16::try_from(bytes.len()).unwrap();
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    bytes[8] = 64;
    bytes[9] = 17;
    bytes[12..16].copy_from_slice(&source.octets());
    bytes[16..20].copy_from_slice(&[192, 0, 2, 1]);
    change(&mut bytes);
    let header = (usize::from(bytes[0] & 15) * 4).min(bytes.len());
    let sum: u32 = bytes[..header]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn ipv6(source: Ipv6Address, next: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend([next, 255]);
    bytes.extend(source.octets());
    let to = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    bytes.extend(to.octets());
    bytes.extend(body);
    if next == 58 && body.len() >= 8 {
        let pseudo = checksum::pseudo(source.into(), to.into(), next.into(), body.len());
        let sum = !checksum::sum(body, pseudo);
        bytes[42..44].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

fn neighbour(kind: u8, target: Ipv6Address) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(target.octets());
    bytes
}

fn arp(operation: u16, mac: EthernetAddress, sender: Ipv4Address, target: Ipv4Address) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    bytes.extend(mac.0);
    bytes.extend(sender.octets());
    bytes.extend([0; 6]);
    bytes.extend(target.octets());
    bytes
}

/// Checks each row: a name, the frame, and what is to come of it.
fn table(rows: &[(&str, Vec<u8>, Result<Admitted, Refusal>)]) {
    for (name, frame, expected) in rows {
        assert_eq!(admit(&link(), frame), *expected, "{name}");
    }
}

#[test]
fn frames() {
    let packet = ipv4(IP, 8, |_| ());
    table(&[
        ("own", frame(MAC, 0x0800, &packet), Ok(Admitted::Ipv4)),
        ("padded", frame(MAC, 0x0800, &[packet.clone(), vec![0; 18]].concat()), Ok(Admitted::Ipv4)),
        ("empty", vec![], Err(Refusal::Truncated("Ethernet"))),
        ("13 bytes", vec![0; 13], Err(Refusal::Truncated("Ethernet"))),
        ("other MAC", frame(OTHER_MAC, 0x0800, &packet), Err(Refusal::SourceMac(OTHER_MAC))),
        ("802.1Q", frame(MAC, 0x8100, &packet), Err(Refusal::Tagged(0x8100))),
        ("802.1ad", frame(MAC, 0x88a8, &packet), Err(Refusal::Tagged(0x88a8))),
        ("old tag", frame(MAC, 0x9100, &packet), Err(Refusal::Tagged(0x9100))),
        ("802.3 length", frame(MAC, 28, &packet), Err(Refusal::EtherType(28))),
        ("LLDP", frame(MAC, 0x88cc, &packet), Err(Refusal::EtherType(0x88cc))),
        ("too long", vec![0; MAX_FRAME + 1], Err(Refusal::TooLong(MAX_FRAME + 1))),
        (
            "IPv6 as IPv4",
            frame(MAC, 0x0800, &ipv6(IP6, 17, &[0; 8])),
            Err(Refusal::Version("IPv4")),
        ),
        ("IPv4 as IPv6", frame(MAC, 0x86dd, &ipv4(IP, 40, |_| ())), Err(Refusal::Version("IPv6"))),
    ]);
}

#[test]
fn ipv4_headers() {
    let own = |change: fn(&mut [u8])| frame(MAC, 0x0800, &ipv4(IP, 8, change));
    let mut wrong_sum = own(|_| ());
    wrong_sum[14 + 10] ^= 1;
    table(&[
        ("options", own(|b| b[0] = 0x47), Ok(Admitted::Ipv4)),
        ("IHL 4", own(|b| b[0] = 0x44), Err(Refusal::HeaderLength(16))),
        ("IHL 0", own(|b| b[0] = 0x40), Err(Refusal::HeaderLength(0))),
        ("IHL past the packet", own(|b| b[0] = 0x4f), Err(Refusal::Truncated("IPv4"))),
        ("length past the frame", own(|b| b[3] = 29), Err(Refusal::Truncated("IPv4"))),
        ("length below the header", own(|b| b[3] = 19), Err(Refusal::Truncated("IPv4"))),
        ("19 bytes", frame(MAC, 0x0800, &[0x45; 19]), Err(Refusal::Truncated("IPv4"))),
        ("checksum", wrong_sum, Err(Refusal::Checksum)),
    ]);
}

#[test]
fn ipv4_sources() {
    for source in [
        OTHER_IP,
        Ipv4Address::UNSPECIFIED,
        Ipv4Address::BROADCAST,
        Ipv4Address::LOCALHOST,
        Ipv4Address::new(169, 254, 169, 254),
        Ipv4Address::new(224, 0, 0, 1),
    ] {
        let spoofed = frame(MAC, 0x0800, &ipv4(source, 8, |_| ()));
        assert_eq!(admit(&link(), &spoofed), Err(Refusal::SourceIpv4(source)));
    }
}

#[test]
fn arp_senders() {
    let packet =
        |operation, mac, sender, target| frame(MAC, 0x0806, &arp(operation, mac, sender, target));
    let zero = Ipv4Address::UNSPECIFIED;
    let mut not_ethernet = arp(1, MAC, IP, OTHER_IP);
    not_ethernet[1] = 6;
    let mut long_address = arp(1, MAC, IP, OTHER_IP);
    long_address[4] = 16;
    table(&[
        ("request", packet(1, MAC, IP, OTHER_IP), Ok(Admitted::Arp)),
        ("reply", packet(2, MAC, IP, OTHER_IP), Ok(Admitted::Arp)),
        ("gratuitous", packet(1, MAC, IP, IP), Ok(Admitted::Arp)),
        ("probe", packet(1, MAC, zero, IP), Ok(Admitted::Arp)),
        ("probe of another", packet(1, MAC, zero, OTHER_IP), Err(Refusal::ArpSender(zero, MAC))),
        ("reply from nobody", packet(2, MAC, zero, IP), Err(Refusal::ArpSender(zero, MAC))),
        ("for another", packet(2, MAC, OTHER_IP, IP), Err(Refusal::ArpSender(OTHER_IP, MAC))),
        ("other MAC inside", packet(1, OTHER_MAC, IP, IP), Err(Refusal::ArpSender(IP, OTHER_MAC))),
        ("RARP", packet(3, MAC, IP, IP), Err(Refusal::ArpKind)),
        ("not Ethernet", frame(MAC, 0x0806, &not_ethernet), Err(Refusal::ArpKind)),
        ("cut", frame(MAC, 0x0806, &arp(1, MAC, IP, IP)[..27]), Err(Refusal::Truncated("ARP"))),
        ("long address", frame(MAC, 0x0806, &long_address), Err(Refusal::Truncated("ARP"))),
    ]);
}

#[test]
fn ipv6_sources_and_headers() {
    let packet = |source, next, body: &[u8]| frame(MAC, 0x86dd, &ipv6(source, next, body));
    let own_local = link_local(MAC);
    let other_local = link_local(OTHER_MAC);
    let mut long = ipv6(IP6, 17, &[0; 8]);
    long[5] = 9;
    let jumbo = ipv6(IP6, 0, &[]);
    let row_of = |count: usize| {
        let mut body = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        let last = body.len() - 8;
        body[last] = 17;
        body
    };
    table(&[
        ("own", packet(IP6, 17, &[0; 8]), Ok(Admitted::Ipv6)),
        ("own link-local", packet(own_local, 17, &[0; 8]), Ok(Admitted::Ipv6)),
        ("other", packet(OTHER_IP6, 17, &[0; 8]), Err(Refusal::SourceIpv6(OTHER_IP6))),
        ("other local", packet(other_local, 6, &[0; 20]), Err(Refusal::SourceIpv6(other_local))),
        (
            "none",
            packet(Ipv6Address::UNSPECIFIED, 17, &[0; 8]),
            Err(Refusal::SourceIpv6(Ipv6Address::UNSPECIFIED)),
        ),
        ("39 bytes", frame(MAC, 0x86dd, &[0x60; 39]), Err(Refusal::Truncated("IPv6"))),
        ("length past the frame", frame(MAC, 0x86dd, &long), Err(Refusal::Truncated("IPv6"))),
        (
            "jumbogram",
            frame(MAC, 0x86dd, &jumbo),
            Err(Refusal::Extension("a payload longer than its header can say")),
        ),
        ("four extensions", packet(IP6, 60, &row_of(4)), Ok(Admitted::Ipv6)),
        (
            "five",
            packet(IP6, 60, &row_of(5)),
            Err(Refusal::Extension("too many extension headers")),
        ),
        (
            "extension cut",
            packet(IP6, 60, &[17, 3, 0, 0, 0, 0, 0, 0]),
            Err(Refusal::Truncated("extension")),
        ),
        ("extension of a byte", packet(IP6, 0, &[17]), Err(Refusal::Truncated("extension"))),
        ("fragment cut", packet(IP6, 44, &[17, 0, 0]), Err(Refusal::Truncated("fragment"))),
    ]);
}

#[test]
fn neighbour_discovery() {
    let none = Ipv6Address::UNSPECIFIED;
    let icmp = |source, message: &[u8]| frame(MAC, 0x86dd, &ipv6(source, 58, message));
    let hidden = |next: u8, header: &[u8], message: &[u8]| {
        frame(MAC, 0x86dd, &ipv6(IP6, next, &[header, message].concat()))
    };
    let advertisement = neighbour(136, IP6);
    table(&[
        ("echo", icmp(IP6, &[128, 0, 0, 0, 0, 0, 0, 0]), Ok(Admitted::Ipv6)),
        ("probe of its own", icmp(none, &neighbour(135, IP6)), Ok(Admitted::Ipv6)),
        (
            "probe of another",
            icmp(none, &neighbour(135, OTHER_IP6)),
            Err(Refusal::Neighbour(OTHER_IP6)),
        ),
        ("question", icmp(IP6, &neighbour(135, OTHER_IP6)), Ok(Admitted::Ipv6)),
        ("answer", icmp(IP6, &advertisement), Ok(Admitted::Ipv6)),
        (
            "answer for another",
            icmp(IP6, &neighbour(136, OTHER_IP6)),
            Err(Refusal::Neighbour(OTHER_IP6)),
        ),
        ("answer of another", icmp(OTHER_IP6, &advertisement), Err(Refusal::SourceIpv6(OTHER_IP6))),
        ("router solicitation", icmp(none, &[133, 0, 0, 0, 0, 0, 0, 0]), Ok(Admitted::Ipv6)),
        ("router advertisement", icmp(IP6, &[134; 16]), Err(Refusal::RouterMessage(134))),
        ("redirect", icmp(IP6, &[137; 40]), Err(Refusal::RouterMessage(137))),
        ("cut", icmp(IP6, &advertisement[..20]), Err(Refusal::Truncated("ICMPv6"))),
        ("empty", icmp(IP6, &[]), Err(Refusal::Truncated("ICMPv6"))),
        (
            "hidden",
            hidden(60, &[58, 0, 1, 4, 0, 0, 0, 0], &advertisement),
            Err(Refusal::HiddenDiscovery),
        ),
        (
            "fragment",
            hidden(44, &[58, 0, 0, 1, 0, 0, 0, 1], &advertisement),
            Err(Refusal::HiddenDiscovery),
        ),
        ("later fragment", hidden(44, &[58, 0, 0, 9, 0, 0, 0, 1], &[0; 8]), Ok(Admitted::Ipv6)),
    ]);
}

/// RFC 4861, 6.1.1, 7.1.1 and 7.1.2: what a router has passed on, what is of
/// another code, has a wrong sum, or options without a length, is discarded.
#[test]
fn discovery_that_is_not_valid() {
    let changed = |message: &[u8], at: usize, value: u8| {
        let mut packet = ipv6(IP6, 58, message);
        packet[at] = value;
        frame(MAC, 0x86dd, &packet)
    };
    let router = [133, 0, 0, 0, 0, 0, 0, 0];
    for message in [&neighbour(135, OTHER_IP6)[..], &neighbour(136, IP6), &router] {
        let refused = |what| Err(Refusal::Discovery(what));
        let with = |option: &[u8]| frame(MAC, 0x86dd, &ipv6(IP6, 58, &[message, option].concat()));
        let mut coded = message.to_vec();
        coded[1] = 1;
        table(&[
            ("hop limit", changed(message, 7, 254), refused("a hop limit below 255")),
            ("sum", changed(message, 43, 0), refused("a wrong checksum")),
            ("code", frame(MAC, 0x86dd, &ipv6(IP6, 58, &coded)), refused("a code")),
            ("option", with(&[1, 1, 2, 0, 0, 0, 0, 1]), Ok(Admitted::Ipv6)),
            ("no length", with(&[1, 0, 2, 0, 0, 0, 0, 1]), refused("an option without a length")),
            ("option cut", with(&[1, 2, 2, 0, 0, 0, 0, 1]), refused("an option cut short")),
            ("half an option", with(&[1]), refused("an option cut short")),
        ]);
    }
}

/// Every prefix of every good frame, and every byte of it changed: refused or
/// admitted, and no panic.
#[test]
fn no_frame_panics() {
    let good = [
        frame(MAC, 0x0800, &ipv4(IP, 8, |_| ())),
        frame(MAC, 0x0806, &arp(1, MAC, IP, OTHER_IP)),
        frame(MAC, 0x86dd, &ipv6(IP6, 58, &neighbour(136, IP6))),
        frame(MAC, 0x86dd, &ipv6(IP6, 60, &[17, 0, 1, 4, 0, 0, 0, 0])),
    ];
    for frame in good {
        assert!(admit(&link(), &frame).is_ok());
        for length in 0..frame.len() {
            assert!(admit(&link(), &frame[..length]).is_err(), "{length} bytes");
        }
        for at in 0..frame.len() {
            for value in 0..=255 {
                let mut changed = frame.clone();
                changed[at] = value;
                let _ = admit(&link(), &changed);
            }
        }
    }
}
