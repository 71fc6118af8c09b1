//! Packets for the guest, written from nothing.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpAddress, IpProtocol, IpRepr, Ipv4Repr, Ipv6Repr, UdpPacket,
};

/// Hops of what we send: as many as Linux gives by default.
pub const HOPS: u8 = 64;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// Bytes of a UDP header.
pub const UDP: usize = 8;

/// Bytes of the IP header that a packet to this address has.
pub fn ip_header(to: IpAddr) -> usize {
    if to.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
}

/// Writes an IP header at the start of `ip`. Source and destination are of one
/// family; nothing is written otherwise.
pub fn write_ip(ip: &mut [u8], from: IpAddr, to: IpAddr, protocol: IpProtocol, payload: usize) {
    let repr = match (from, to) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => IpRepr::Ipv4(Ipv4Repr {
            src_addr,
            dst_addr,
            next_header: protocol,
            payload_len: payload,
            hop_limit: HOPS,
        }),
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => IpRepr::Ipv6(Ipv6Repr {
            src_addr,
            dst_addr,
            next_header: protocol,
            payload_len: payload,
            hop_limit: HOPS,
        }),
        _ => return,
    };
    if ip.len() >= repr.header_len() {
        repr.emit(ip, &ChecksumCapabilities::default());
    }
}

/// Writes IP and UDP headers into `ip`, whose end is the payload already.
/// The checksum is a whole one.
pub fn write_udp(ip: &mut [u8], from: SocketAddr, to: SocketAddr) {
    let header = ip_header(to.ip());
    let Some(datagram) = ip.len().checked_sub(header).filter(|length| *length >= UDP) else {
        return;
    };
    write_ip(ip, from.ip(), to.ip(), IpProtocol::Udp, datagram);
    let Some(udp) = ip.get_mut(header..) else { return };
    let mut packet = UdpPacket::new_unchecked(udp);
    packet.set_src_port(from.port());
    packet.set_dst_port(to.port());
    packet.set_len(u16::try_from(datagram).unwrap_or(u16::MAX));
    packet.fill_checksum(&IpAddress::from(from.ip()), &IpAddress::from(to.ip()));
}
