//! IPv6 (RFC 8200) and its neighbour discovery (RFC 4861).

use smoltcp::wire::{IPV6_HEADER_LEN, IpProtocol, Ipv6Address, Ipv6Packet};

use super::{Link, Refusal};
use crate::checksum;

/// Extension headers in a row; RFC 8200 has four kinds that a host sends, each
/// once. A longer row only costs the walk.
const MAX_EXTENSIONS: usize = 4;

/// ICMPv6 types of neighbour discovery.
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// Where the target address stands in a solicitation or advertisement.
const TARGET: std::ops::Range<usize> = 8..24;

/// Bytes of a router solicitation before its options.
const SOLICITATION_HEADER: usize = 8;

pub(super) fn check(link: &Link, payload: &[u8]) -> Result<(), Refusal> {
    if payload.len() < IPV6_HEADER_LEN {
        return Err(Refusal::Truncated("IPv6"));
    }
    let packet = Ipv6Packet::new_unchecked(payload);
    if packet.version() != 6 {
        return Err(Refusal::Version("IPv6"));
    }
    packet.check_len().map_err(|_| Refusal::Truncated("IPv6"))?;
    if packet.payload_len() == 0 && packet.next_header() == IpProtocol::HopByHop {
        return Err(Refusal::Extension("a payload longer than its header can say"));
    }
    let body = payload.get(IPV6_HEADER_LEN..packet.total_len());
    let upper = walk(packet.next_header(), body.ok_or(Refusal::Truncated("IPv6"))?)?;
    let source = packet.src_addr();
    match upper {
        Upper::Icmp { message, hidden } => check_icmp(link, &packet, message, hidden),
        Upper::Other => check_source(link, source),
    }
}

fn check_source(link: &Link, source: Ipv6Address) -> Result<(), Refusal> {
    if link.ipv6.contains(&source) { Ok(()) } else { Err(Refusal::SourceIpv6(source)) }
}

/// What is behind the extension headers.
enum Upper<'a> {
    /// An ICMPv6 message, `hidden` behind at least one extension header.
    Icmp {
        message: &'a [u8],
        hidden: bool,
    },
    Other,
}

/// Follows the extension headers.
fn walk(first: IpProtocol, mut body: &[u8]) -> Result<Upper<'_>, Refusal> {
    let mut next = first;
    for extensions in 0..=MAX_EXTENSIONS {
        let length = match next {
            IpProtocol::Icmpv6 => {
                return Ok(Upper::Icmp { message: body, hidden: extensions > 0 });
            }
            IpProtocol::HopByHop | IpProtocol::Ipv6Route | IpProtocol::Ipv6Opts => {
                let [_, units, ..] = body else { return Err(Refusal::Truncated("extension")) };
                (usize::from(*units) + 1) * 8
            }
            IpProtocol::Ipv6Frag => match body {
                // The whole, as [`Packet::parse`](crate::packet::Packet) has it.
                [_, _, 0, low, ..] if low & !6 == 0 => 8,
                _ => return fragment(body),
            },
            _ => return Ok(Upper::Other),
        };
        let Some((header, rest)) = body.split_at_checked(length) else {
            return Err(Refusal::Truncated("extension"));
        };
        next = header.first().copied().map_or(IpProtocol::Ipv6NoNxt, IpProtocol::from);
        body = rest;
    }
    Err(Refusal::Extension("too many extension headers"))
}

/// A first fragment shows what it is a part of; later ones are admitted by
/// their source alone, as nothing can be made of them without the first.
fn fragment(body: &[u8]) -> Result<Upper<'_>, Refusal> {
    let [next, _, high, low, _, _, _, _, rest @ ..] = body else {
        return Err(Refusal::Truncated("fragment"));
    };
    let first = u16::from_be_bytes([*high, *low]) >> 3 == 0;
    if first && IpProtocol::from(*next) == IpProtocol::Icmpv6 {
        return Ok(Upper::Icmp { message: rest, hidden: true });
    }
    Ok(Upper::Other)
}

fn check_icmp(
    link: &Link,
    packet: &Ipv6Packet<&[u8]>,
    message: &[u8],
    hidden: bool,
) -> Result<(), Refusal> {
    let source = packet.src_addr();
    let kind = *message.first().ok_or(Refusal::Truncated("ICMPv6"))?;
    if !(ROUTER_SOLICITATION..=REDIRECT).contains(&kind) {
        return check_source(link, source);
    }
    if hidden {
        return Err(Refusal::HiddenDiscovery);
    }
    if matches!(kind, ROUTER_ADVERTISEMENT | REDIRECT) {
        return Err(Refusal::RouterMessage(kind));
    }
    check_discovery(packet, message, kind)?;
    match kind {
        // Before it has an address, a host may ask for routers without one.
        ROUTER_SOLICITATION if source.is_unspecified() => Ok(()),
        NEIGHBOUR_SOLICITATION if source.is_unspecified() => check_target(link, message),
        NEIGHBOUR_ADVERTISEMENT => {
            check_target(link, message)?;
            check_source(link, source)
        }
        _ => check_source(link, source),
    }
}

/// What every receiver has to see to (RFC 4861, 6.1.1, 7.1.1 and 7.1.2). A
/// packet that a router has passed on has a lower hop limit.
fn check_discovery(packet: &Ipv6Packet<&[u8]>, message: &[u8], kind: u8) -> Result<(), Refusal> {
    let fixed = if kind == ROUTER_SOLICITATION { SOLICITATION_HEADER } else { TARGET.end };
    let mut options = message.get(fixed..).ok_or(Refusal::Truncated("ICMPv6"))?;
    if packet.hop_limit() != 255 {
        return Err(Refusal::Discovery("a hop limit below 255"));
    }
    if message.get(1) != Some(&0) {
        return Err(Refusal::Discovery("a code"));
    }
    let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
    let pseudo = checksum::pseudo(from, to, IpProtocol::Icmpv6, message.len());
    if checksum::sum(message, pseudo) != 0xffff {
        return Err(Refusal::Discovery("a wrong checksum"));
    }
    while !options.is_empty() {
        options = match options {
            [_, 0, ..] => return Err(Refusal::Discovery("an option without a length")),
            [_, units, ..] => options.get(usize::from(*units) * 8..),
            _ => None,
        }
        .ok_or(Refusal::Discovery("an option cut short"))?;
    }
    Ok(())
}

/// The address that a probe or an advertisement is about must be the link's.
fn check_target(link: &Link, message: &[u8]) -> Result<(), Refusal> {
    let target: [u8; 16] = message
        .get(TARGET)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Refusal::Truncated("ICMPv6"))?;
    let target = Ipv6Address::from(target);
    if link.ipv6.contains(&target) { Ok(()) } else { Err(Refusal::Neighbour(target)) }
}
