#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use smoltcp::wire::{IpProtocol, Ipv6Packet};

use super::*;
use crate::checksum;

const GUEST: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const GATEWAY: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

fn link() -> Link {
    Link::new(GUEST, &[IP], &[IP6])
}

fn request(operation: [u8; 2], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    [KIND.as_slice(), &operation, &GUEST.0, &sender, &[0; 6], &target].concat()
}

/// R65, group 16: the gateway has every address but the guest's own, and says
/// nothing to probes and announcements.
#[test]
fn arp_is_answered_for_all_but_the_guest() {
    let ask = |op, sender, target| arp_reply(&link(), GATEWAY, &request(op, sender, target));
    let reply = ask(REQUEST, [10, 0, 0, 2], [10, 0, 0, 77]).unwrap();
    assert_eq!(reply[6..8], REPLY);
    assert_eq!(reply[8..18], [2, 0, 0, 0, 0, 9, 10, 0, 0, 77]);
    assert_eq!(reply[18..28], [2, 0, 0, 0, 0, 1, 10, 0, 0, 2]);
    assert_eq!(ask(REQUEST, [10, 0, 0, 2], [10, 0, 0, 2]), None, "announcement");
    assert_eq!(ask(REQUEST, [0; 4], [10, 0, 0, 2]), None, "probe");
    assert_eq!(ask(REQUEST, [0; 4], [10, 0, 0, 3]), None, "probe for another");
    assert_eq!(ask(REPLY, [10, 0, 0, 2], [10, 0, 0, 77]), None, "reply");
    assert_eq!(arp_reply(&link(), GATEWAY, &[0; 27]), None, "short");
}

/// Group 16: the same for neighbour solicitations, with a sum that is right.
#[test]
fn solicitations_are_answered_for_all_but_the_guest() {
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let ask = |from, target: Ipv6Addr| {
        let message = [[SOLICITATION, 0, 0, 0, 0, 0, 0, 0].as_slice(), &target.octets()].concat();
        advertisement(&link(), GATEWAY, from, &message)
    };
    let reply = ask(IP6, router).unwrap();
    let packet = Ipv6Packet::new_checked(reply.as_slice()).unwrap();
    assert_eq!((packet.src_addr(), packet.dst_addr(), packet.hop_limit()), (router, IP6, 255));
    let body = packet.payload();
    assert_eq!(body[24..], [2, 1, 2, 0, 0, 0, 0, 9]);
    let pseudo = checksum::pseudo(router.into(), IP6.into(), IpProtocol::Icmpv6, body.len());
    assert_eq!(checksum::sum(body, pseudo), 0xffff);
    assert_eq!(ask(IP6, IP6), None, "its own");
    assert_eq!(ask(Ipv6Addr::UNSPECIFIED, router), None, "probe");
    assert_eq!(advertisement(&link(), GATEWAY, IP6, &[SOLICITATION; 23]), None, "short");
}
