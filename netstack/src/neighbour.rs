//! Answers ARP and neighbour discovery for every address but the guest's own.
//!
//! The guest's link has one neighbour, the gateway, behind which everything
//! is. Probes for an address (duplicate address detection) are never answered,
//! or the guest would not dare to use its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::wire::EthernetAddress;

use crate::gate::Link;
use crate::icmp;

/// ARP for Ethernet and IPv4.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// ICMPv6 types (RFC 4861, section 4).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// An advertisement's flags: from a router, solicited, to be believed.
const FLAGS: [u8; 4] = [0xe0, 0, 0, 0];

/// The option with the target's link-layer address, in units of 8 bytes.
const TARGET_ADDRESS: [u8; 2] = [2, 1];

/// Where an IPv6 header has the hop limit.
const HOP_LIMIT: usize = 7;

/// The answer to an ARP request that the gate let in.
pub fn arp_reply(link: &Link, gateway: EthernetAddress, payload: &[u8]) -> Option<Vec<u8>> {
    let payload: &[u8; 28] = payload.get(..28)?.try_into().ok()?;
    let operation = payload.get(6..8)?;
    let mac = payload.get(8..14)?;
    let sender = ipv4(payload.get(14..18)?)?;
    let target = ipv4(payload.get(24..28)?)?;
    let answered = operation == REQUEST
        && !sender.is_unspecified()
        && !target.is_unspecified()
        && !target.is_multicast()
        && !target.is_broadcast()
        && !link.has(target.into());
    let reply =
        [KIND.as_slice(), &REPLY, gateway.as_bytes(), &target.octets(), mac, &sender.octets()];
    answered.then(|| reply.concat())
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

/// The answer, an IP packet, to a neighbour solicitation that the gate let in.
pub fn advertisement(
    link: &Link,
    gateway: EthernetAddress,
    from: Ipv6Addr,
    message: &[u8],
) -> Option<Vec<u8>> {
    let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    let target = Ipv6Addr::from(target);
    let answered = *message.first()? == SOLICITATION
        && !from.is_unspecified()
        && !target.is_multicast()
        && !target.is_unspecified()
        && !link.has(target.into());
    let body = [target.octets().as_slice(), &TARGET_ADDRESS, gateway.as_bytes()].concat();
    let mut packet = icmp::message(target.into(), from.into(), ADVERTISEMENT, 0, FLAGS, &body);
    // Receivers check that it did not pass a router (RFC 4861, 7.1.2).
    *packet.get_mut(HOP_LIMIT)? = 255;
    answered.then_some(packet)
}

#[cfg(test)]
mod tests;
