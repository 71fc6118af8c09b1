//! ICMP for the guest: errors about what it sent, and echo replies.

use std::net::IpAddr;

use smoltcp::wire::IpProtocol;

use crate::checksum;
use crate::emit::{ip_header, write_ip};

/// Bytes of an ICMP header.
pub const HEADER: usize = 8;

/// Most bytes of an error with what it quotes: the smallest MTU there may be
/// (RFC 1812, 4.3.2.3; RFC 4443, 2.4 c).
const MOST: usize = 576;
const MOST6: usize = 1_280;

/// An error about a packet of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No route to the network.
    Network,
    /// The host does not answer.
    Host,
    /// Nothing has this port.
    Port,
    /// The destination does not speak this protocol.
    Protocol,
    /// Somebody's policy does not let it pass.
    Prohibited,
    /// It was not to be cut, and is larger than what the path takes.
    TooBig(u32),
    /// It passed too many routers.
    Expired,
    /// Parts of it never came.
    Reassembly,
    /// As a router sent it: type, code, and the header's last four bytes.
    Raw(u8, u8, [u8; 4]),
}

impl Error {
    /// Type, code and the header's last four bytes.
    fn words(self, v4: bool) -> (u8, u8, [u8; 4]) {
        let none = [0; 4];
        match (self, v4) {
            (Self::Network, true) => (3, 0, none),
            (Self::Network, false) => (1, 0, none),
            (Self::Host, true) => (3, 1, none),
            (Self::Host, false) => (1, 3, none),
            (Self::Protocol, true) => (3, 2, none),
            // IPv6 has "unrecognized next header", with a pointer to it: the
            // field in the fixed header.
            (Self::Protocol, false) => (4, 1, [0, 0, 0, 6]),
            (Self::Port, true) => (3, 3, none),
            (Self::Port, false) => (1, 4, none),
            (Self::Prohibited, true) => (3, 13, none),
            (Self::Prohibited, false) => (1, 1, none),
            (Self::TooBig(mtu), true) => {
                let [a, b] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
                (3, 4, [0, 0, a, b])
            }
            (Self::TooBig(mtu), false) => (2, 0, mtu.to_be_bytes()),
            (Self::Expired, true) => (11, 0, none),
            (Self::Expired, false) => (3, 0, none),
            (Self::Reassembly, true) => (11, 1, none),
            (Self::Reassembly, false) => (3, 1, none),
            (Self::Raw(kind, code, rest), _) => (kind, code, rest),
        }
    }
}

/// The error about `packet`, which the guest sent, as an IP packet from
/// `from`. The two are of one family.
pub fn error(from: IpAddr, to: IpAddr, error: Error, packet: &[u8]) -> Vec<u8> {
    let (kind, code, rest) = error.words(to.is_ipv4());
    let most = if to.is_ipv4() { MOST } else { MOST6 } - ip_header(to) - HEADER;
    let quote = packet.get(..most).unwrap_or(packet);
    message(from, to, kind, code, rest, quote)
}

/// An ICMP message in its IP packet.
pub fn message(
    from: IpAddr,
    to: IpAddr,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    body: &[u8],
) -> Vec<u8> {
    let protocol = if to.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
    let length = HEADER + body.len();
    let mut bytes = vec![0; ip_header(to)];
    write_ip(&mut bytes, from, to, protocol, length);
    let start = if to.is_ipv4() { 0 } else { checksum::pseudo(from, to, protocol, length) };
    let [r0, r1, r2, r3] = rest;
    let sum = checksum::sum(&[kind, code, 0, 0, r0, r1, r2, r3], start);
    let [c0, c1] = (!checksum::sum(body, sum)).to_be_bytes();
    bytes.extend_from_slice(&[kind, code, c0, c1, r0, r1, r2, r3]);
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests;
