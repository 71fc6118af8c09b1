//! The gate of a link: the first look at each frame of a guest. What a guest
//! may do is bound to its link, so a frame that claims to come from somebody
//! else ends here, before anything asks what it wants.

use smoltcp::wire::{
    ArpHardware, ArpPacket, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Message,
    IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, Ipv6Address, Ipv6Packet,
};

/// IEEE 802.1Q and 802.1ad tags.
const VLAN: [u16; 2] = [0x8100, 0x88a8];

/// What a link belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Hardware address of the guest's interface.
    pub mac: EthernetAddress,
    /// The pod's addresses. Link-local IPv6 addresses need not be listed.
    pub addresses: Vec<IpAddress>,
}

/// A frame that comes from where it says, without its padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted<'a> {
    /// A packet of RFC 826, hardware Ethernet, protocol IPv4.
    Arp(&'a [u8]),
    /// A packet of RFC 791, as long as its total length.
    Ipv4(&'a [u8]),
    /// A packet of RFC 8200, as long as its payload length and header.
    Ipv6(&'a [u8]),
}

/// Why a frame does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Shorter than what its headers announce.
    #[error("the frame is cut off")]
    Truncated,
    /// The source hardware address is not the guest's.
    #[error("the frame comes from {0}, which is not the guest's hardware address")]
    Mac(EthernetAddress),
    /// VLAN tags could carry a packet past checks of the one below.
    #[error("the frame has a VLAN tag")]
    Vlan,
    /// Neither IPv4, IPv6 nor ARP.
    #[error("the frame carries protocol {0:#06x}, only IPv4, IPv6 and ARP pass")]
    Protocol(u16),
    /// Fields that contradict each other or the specification.
    #[error("the packet's header is malformed")]
    Malformed,
    /// The source address is not the pod's.
    #[error("the packet comes from {0}, which is not an address of the pod")]
    Source(IpAddress),
}

impl Link {
    fn has(&self, address: IpAddress) -> bool {
        self.addresses.contains(&address)
    }
}

/// Checks a frame of the guest on `link`.
pub fn admit<'a>(link: &Link, frame: &'a [u8]) -> Result<Admitted<'a>, Refused> {
    let ethernet = EthernetFrame::new_checked(frame).map_err(|_| Refused::Truncated)?;
    if ethernet.src_addr() != link.mac {
        return Err(Refused::Mac(ethernet.src_addr()));
    }
    match ethernet.ethertype() {
        EthernetProtocol::Arp => arp(link, ethernet.payload()),
        EthernetProtocol::Ipv4 => ipv4(link, ethernet.payload()),
        EthernetProtocol::Ipv6 => ipv6(link, ethernet.payload()),
        EthernetProtocol::Unknown(tag) if VLAN.contains(&tag) => Err(Refused::Vlan),
        EthernetProtocol::Unknown(other) => Err(Refused::Protocol(other)),
    }
}

fn arp<'a>(link: &Link, packet: &'a [u8]) -> Result<Admitted<'a>, Refused> {
    const LEN: usize = 28;
    let packet = packet.get(..LEN).ok_or(Refused::Truncated)?;
    let arp = ArpPacket::new_unchecked(packet);
    let kinds = (arp.hardware_type(), arp.protocol_type());
    let lengths = (arp.hardware_len(), arp.protocol_len());
    if kinds != (ArpHardware::Ethernet, EthernetProtocol::Ipv4) || lengths != (6, 4) {
        return Err(Refused::Malformed);
    }
    let mac = EthernetAddress::from_bytes(arp.source_hardware_addr());
    if mac != link.mac {
        return Err(Refused::Mac(mac));
    }
    let source = ipv4_address(arp.source_protocol_addr());
    // The sender of a probe has no address yet (RFC 5227, section 2.1.1).
    if !source.is_unspecified() && !link.has(source.into()) {
        return Err(Refused::Source(source.into()));
    }
    Ok(Admitted::Arp(packet))
}

fn ipv4_address(bytes: &[u8]) -> Ipv4Address {
    bytes.try_into().map_or(Ipv4Address::UNSPECIFIED, |b: [u8; 4]| b.into())
}

fn ipv4<'a>(link: &Link, packet: &'a [u8]) -> Result<Admitted<'a>, Refused> {
    const LEAST: u8 = 20;
    if packet.len() < usize::from(LEAST) {
        return Err(Refused::Truncated);
    }
    let ip = Ipv4Packet::new_unchecked(packet);
    let (header, total) = (ip.header_len(), usize::from(ip.total_len()));
    if ip.version() != 4 || header < LEAST || total < usize::from(header) {
        return Err(Refused::Malformed);
    }
    let packet = packet.get(..total).ok_or(Refused::Truncated)?;
    if !link.has(ip.src_addr().into()) {
        return Err(Refused::Source(ip.src_addr().into()));
    }
    Ok(Admitted::Ipv4(packet))
}

fn ipv6<'a>(link: &Link, packet: &'a [u8]) -> Result<Admitted<'a>, Refused> {
    const HEADER: usize = 40;
    if packet.len() < HEADER {
        return Err(Refused::Truncated);
    }
    let ip = Ipv6Packet::new_unchecked(packet);
    if ip.version() != 6 {
        return Err(Refused::Malformed);
    }
    let packet = packet.get(..HEADER + usize::from(ip.payload_len())).ok_or(Refused::Truncated)?;
    let source = ip.src_addr();
    let claims = match source {
        Ipv6Address::UNSPECIFIED => asks_for_duplicates(&ip, packet),
        _ => source.is_unicast_link_local() || link.has(source.into()),
    };
    if !claims {
        return Err(Refused::Source(source.into()));
    }
    Ok(Admitted::Ipv6(packet))
}

/// Duplicate address detection (RFC 4862, section 5.4.2) is what a packet
/// from no address is for.
fn asks_for_duplicates(ip: &Ipv6Packet<&[u8]>, packet: &[u8]) -> bool {
    let solicits = u8::from(Icmpv6Message::NeighborSolicit);
    ip.next_header() == IpProtocol::Icmpv6
        && ip.dst_addr().is_multicast()
        && packet.get(40) == Some(&solicits)
}

#[cfg(test)]
mod tests;
