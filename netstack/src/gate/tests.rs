#![allow(clippy::unwrap_used)]

use super::*;

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [0x02, 0, 0, 0, 0, 2];
const POD4: [u8; 4] = [10, 1, 2, 3];
const POD6: Ipv6Address = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);

fn link() -> Link {
    Link { mac: EthernetAddress(MAC), addresses: vec![POD4.into4(), POD6.into()] }
}

trait Into4 {
    fn into4(self) -> IpAddress;
}

impl Into4 for [u8; 4] {
    fn into4(self) -> IpAddress {
        Ipv4Address::from(self).into()
    }
}

fn ethernet(mac: [u8; 6], protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0xfe];
    frame.extend(mac);
    frame.extend(protocol.to_be_bytes());
    frame.extend(payload);
    frame
}

fn ipv4_packet(source: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source);
    packet.extend([1, 1, 1, 1]);
    packet.extend(b"data");
    packet
}

fn ipv6_packet(source: Ipv6Address, target: Ipv6Address, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(source.octets());
    packet.extend(target.octets());
    packet.extend(payload);
    packet
}

fn arp_packet(mac: [u8; 6], source: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(mac);
    packet.extend(source);
    packet.extend([0; 6]);
    packet.extend([10, 1, 2, 1]);
    packet
}

fn refused(protocol: u16, payload: &[u8]) -> Refused {
    admit(&link(), &ethernet(MAC, protocol, payload)).unwrap_err()
}

#[test]
fn packets_of_the_pod_pass_without_their_padding() {
    let packet = ipv4_packet(POD4);
    let frame = ethernet(MAC, 0x0800, &[packet.as_slice(), &[0; 22]].concat());
    assert_eq!(admit(&link(), &frame), Ok(Admitted::Ipv4(&packet)));

    let packet = ipv6_packet(POD6, POD6, 17, b"data");
    let frame = ethernet(MAC, 0x86dd, &[packet.as_slice(), &[0; 9]].concat());
    assert_eq!(admit(&link(), &frame), Ok(Admitted::Ipv6(&packet)));

    let packet = arp_packet(MAC, POD4);
    let frame = ethernet(MAC, 0x0806, &[packet.as_slice(), &[0; 18]].concat());
    assert_eq!(admit(&link(), &frame), Ok(Admitted::Arp(&packet)));
}

/// Requirement 64: other source addresses are dropped.
#[test]
fn forged_sources_are_refused() {
    let frame = ethernet(OTHER, 0x0800, &ipv4_packet(POD4));
    assert_eq!(admit(&link(), &frame), Err(Refused::Mac(EthernetAddress(OTHER))));
    for source in [[10, 1, 2, 4], [127, 0, 0, 1], [0; 4], [169, 254, 169, 254], [255; 4]] {
        assert_eq!(refused(0x0800, &ipv4_packet(source)), Refused::Source(source.into4()));
    }
    for source in ["fd00::4", "::1", "ff02::1", "::ffff:10.1.2.3", "64:ff9b::a01:203"] {
        let source: Ipv6Address = source.parse().unwrap();
        let packet = ipv6_packet(source, POD6, 17, b"");
        assert_eq!(refused(0x86dd, &packet), Refused::Source(source.into()));
    }
}

#[test]
fn arp_speaks_for_the_guest_alone() {
    assert_eq!(
        refused(0x0806, &arp_packet(OTHER, POD4)),
        Refused::Mac(EthernetAddress(OTHER)),
        "somebody else's hardware address in the guest's frame"
    );
    let gateway = [10, 1, 2, 1];
    assert_eq!(refused(0x0806, &arp_packet(MAC, gateway)), Refused::Source(gateway.into4()));
    let probe = ethernet(MAC, 0x0806, &arp_packet(MAC, [0; 4]));
    assert!(matches!(admit(&link(), &probe), Ok(Admitted::Arp(_))));
    for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16)] {
        let mut packet = arp_packet(MAC, POD4);
        packet[at] = value;
        assert_eq!(refused(0x0806, &packet), Refused::Malformed, "byte {at}");
    }
}

#[test]
fn link_local_and_duplicate_address_detection_pass() {
    let local: Ipv6Address = "fe80::1234".parse().unwrap();
    let frame = ethernet(MAC, 0x86dd, &ipv6_packet(local, POD6, 17, b""));
    assert!(admit(&link(), &frame).is_ok());

    let group: Ipv6Address = "ff02::1:ff00:3".parse().unwrap();
    let solicitation = [&[135, 0][..], &[0; 22]].concat();
    let none = Ipv6Address::UNSPECIFIED;
    let frame = ethernet(MAC, 0x86dd, &ipv6_packet(none, group, 58, &solicitation));
    assert!(admit(&link(), &frame).is_ok());
    for (target, next, payload) in [
        (POD6, 58, &solicitation[..]),
        (group, 17, &solicitation[..]),
        (group, 58, &[128, 0, 0, 0][..]),
        (group, 58, &[][..]),
    ] {
        let packet = ipv6_packet(none, target, next, payload);
        assert_eq!(refused(0x86dd, &packet), Refused::Source(none.into()));
    }
}

/// Requirement 63: truncated headers, IHL below 5 and VLAN tags never pass.
#[test]
fn malformed_frames_are_refused() {
    let change = |at: usize, value: u8| {
        let mut packet = ipv4_packet(POD4);
        packet[at] = value;
        packet
    };
    for ihl in 0..5 {
        assert_eq!(refused(0x0800, &change(0, 0x40 | ihl)), Refused::Malformed);
    }
    assert_eq!(refused(0x0800, &change(0, 0x47)), Refused::Malformed, "header over total");
    assert_eq!(refused(0x0800, &change(0, 0x65)), Refused::Malformed, "version 6");
    assert_eq!(refused(0x0800, &change(3, 19)), Refused::Malformed, "total below header");
    assert_eq!(refused(0x0800, &change(3, 25)), Refused::Truncated, "total over frame");
    let mut ipv6 = ipv6_packet(POD6, POD6, 17, b"data");
    ipv6[5] = 5;
    assert_eq!(refused(0x86dd, &ipv6), Refused::Truncated);
    ipv6[0] = 0x40;
    assert_eq!(refused(0x86dd, &ipv6), Refused::Malformed);
    for tag in VLAN {
        let tagged = [&[0, 1, 8, 0], ipv4_packet(POD4).as_slice()].concat();
        assert_eq!(refused(tag, &tagged), Refused::Vlan);
    }
    assert_eq!(refused(0x88cc, &[0; 46]), Refused::Protocol(0x88cc));
}

#[test]
fn every_prefix_of_a_frame_is_refused_as_cut_off() {
    let whole = [
        ethernet(MAC, 0x0800, &ipv4_packet(POD4)),
        ethernet(MAC, 0x86dd, &ipv6_packet(POD6, POD6, 17, b"data")),
        ethernet(MAC, 0x0806, &arp_packet(MAC, POD4)),
    ];
    for frame in whole {
        for len in 0..frame.len() {
            assert_eq!(admit(&link(), &frame[..len]), Err(Refused::Truncated), "{len} bytes");
        }
    }
}
