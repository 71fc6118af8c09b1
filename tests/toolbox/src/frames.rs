//! Packets that no socket of a well-behaved program sends.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use std::os::fd::AsRawFd;

use crate::talk::{name, tell};

const UDP: u8 = 17;
const IPV4: [u8; 2] = [0x08, 0x00];

/// Sends a UDP datagram with `text` whose sender is said to be `from`, as an
/// IP packet of our own make.
pub fn forge(from: Ipv4Addr, to: Ipv4Addr, port: u16, text: &str) -> Result<()> {
    let fd = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)?;
    let packet = packet(from, to, port, text.as_bytes());
    let [a, b, c, d] = to.octets();
    let sent = sendto(fd.as_raw_fd(), &packet, &SockaddrIn::new(a, b, c, d, 0), MsgFlags::empty());
    tell(&format!("sent={}", sent.map_or_else(name, |_| "ok".to_owned())))
}

/// The same as a frame on `interface`, past the kernel's routes and filters;
/// with `mac` as its sender.
pub fn forge_frame(
    (interface, mac): (&str, &str),
    from: Ipv4Addr,
    to: Ipv4Addr,
    port: u16,
    text: &str,
) -> Result<()> {
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None)?;
    let mut frame = gateway_of(interface)?.to_vec();
    frame.extend(mac_of(mac)?);
    frame.extend(IPV4);
    frame.extend(packet(from, to, port, text.as_bytes()));
    let sent = sendto(fd.as_raw_fd(), &frame, &link(interface)?, MsgFlags::empty());
    tell(&format!("sent={}", sent.map_or_else(name, |_| "ok".to_owned())))
}

/// The address of a packet socket's interface.
fn link(interface: &str) -> Result<LinkAddr> {
    let found = nix::ifaddrs::getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied());
    found.with_context(|| format!("no interface {interface}"))
}

/// MAC address of the first neighbour on `interface`; there is one once
/// something was sent.
fn gateway_of(interface: &str) -> Result<[u8; 6]> {
    let table = std::fs::read_to_string("/proc/net/arp")?;
    let mut words = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = words.find(|words| words.last() == Some(&interface));
    mac_of(found.and_then(|words| words.get(3).copied()).context("no neighbour")?)
}

fn mac_of(text: &str) -> Result<[u8; 6]> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    bytes.try_into().ok().with_context(|| format!("no MAC address: {text}"))
}

/// IPv4 and UDP; without a UDP checksum, which none needs.
fn packet(from: Ipv4Addr, to: Ipv4Addr, port: u16, data: &[u8]) -> Vec<u8> {
    let udp_length = u16::try_from(8 + data.len()).unwrap_or(u16::MAX);
    let mut header = vec![0x45, 0];
    header.extend((20 + udp_length).to_be_bytes());
    header.extend([0, 1, 0, 0, 64, UDP, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(40_000_u16.to_be_bytes());
    header.extend(port.to_be_bytes());
    header.extend(udp_length.to_be_bytes());
    header.extend([0, 0]);
    header.extend(data);
    header
}

fn checksum(header: &[u8]) -> u16 {
    let words =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
