//! An IP packet, parsed once, after the gate let it in.

use std::net::IpAddr;

use smoltcp::wire::{IPV6_HEADER_LEN, IpProtocol, Ipv4Packet, Ipv6Packet};

/// What the later stages need to know of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The source: the gate has checked that it is an address of the link.
    pub source: IpAddr,
    /// Where it is to go.
    pub destination: IpAddr,
    /// What is behind the IP headers.
    pub protocol: IpProtocol,
    /// Time to live, or hop limit.
    pub hops: u8,
    /// IPv4's "don't fragment"; always so in IPv6.
    pub whole: bool,
    /// Bytes of IP headers, extensions and options included.
    pub header: usize,
    /// Bytes of the packet; what the frame has behind them is padding.
    pub length: usize,
    /// Set in a part of a packet.
    pub fragment: Option<Fragment>,
}

/// Which part of which packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// What the parts of one packet have in common.
    pub id: u32,
    /// Its first byte's place in the packet's payload.
    pub offset: usize,
    /// There are parts behind it.
    pub more: bool,
}

/// What no stack should act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Cut short in a way that the gate lets pass.
    #[error("an IP packet cut short")]
    Truncated,
    /// Options by which the sender wants to choose the route (RFC 7126).
    #[error("source routing")]
    SourceRoute,
    /// An unknown option that asks to discard the packet.
    #[error("unknown IPv6 option {0:#04x} that asks to discard the packet")]
    Option(u8),
}

/// IPv4 options: loose and strict source route.
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// Extension headers in a row; the gate counts likewise.
const MAX_EXTENSIONS: usize = 4;

impl Packet {
    /// Parses what the gate admitted as IP.
    pub fn parse(ip: &[u8]) -> Result<Self, Unfit> {
        match ip.first().ok_or(Unfit::Truncated)? >> 4 {
            4 => parse_ipv4(ip),
            _ => parse_ipv6(ip),
        }
    }

    /// Whether it is for one receiver: nothing is told to who sends to many
    /// (RFC 1122, 3.2.2; RFC 4443, 2.4 e).
    pub fn is_to_one(&self) -> bool {
        !self.destination.is_multicast() && self.destination != IpAddr::from([255; 4])
    }

    /// What is behind the IP headers.
    pub fn payload<'a>(&self, ip: &'a [u8]) -> &'a [u8] {
        ip.get(self.header..self.length).unwrap_or_default()
    }
}

fn parse_ipv4(ip: &[u8]) -> Result<Packet, Unfit> {
    let packet = Ipv4Packet::new_checked(ip).map_err(|_| Unfit::Truncated)?;
    let header = usize::from(packet.header_len());
    let options = ip.get(20..header).unwrap_or_default();
    if has_source_route(options) {
        return Err(Unfit::SourceRoute);
    }
    let (offset, more) = (usize::from(packet.frag_offset()), packet.more_frags());
    Ok(Packet {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        hops: packet.hop_limit(),
        whole: packet.dont_frag(),
        header,
        length: usize::from(packet.total_len()),
        fragment: (offset != 0 || more).then_some(Fragment {
            id: packet.ident().into(),
            offset,
            more,
        }),
    })
}

fn has_source_route(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        let skip = match (kind, rest) {
            (0, _) => return false,
            (1, _) => 0,
            (kind, _) if SOURCE_ROUTES.contains(kind) => return true,
            // A length that does not cover itself would not advance.
            (_, [length, ..]) if *length >= 2 => usize::from(*length) - 1,
            _ => return false,
        };
        options = rest.get(skip..).unwrap_or_default();
    }
    false
}

fn parse_ipv6(ip: &[u8]) -> Result<Packet, Unfit> {
    let packet = Ipv6Packet::new_checked(ip).map_err(|_| Unfit::Truncated)?;
    let length = packet.total_len();
    let mut found = Packet {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        hops: packet.hop_limit(),
        whole: true,
        header: IPV6_HEADER_LEN,
        length,
        fragment: None,
    };
    for _ in 0..=MAX_EXTENSIONS {
        let rest = ip.get(found.header..length).ok_or(Unfit::Truncated)?;
        match found.protocol {
            IpProtocol::HopByHop | IpProtocol::Ipv6Opts => {
                let (next, size) = extension(rest)?;
                check_options(rest.get(2..size).ok_or(Unfit::Truncated)?)?;
                (found.protocol, found.header) = (next, found.header + size);
            }
            IpProtocol::Ipv6Route => {
                let (next, size) = extension(rest)?;
                // Segments left: the packet is not where it wants to be yet.
                if rest.get(3).is_none_or(|left| *left != 0) {
                    return Err(Unfit::SourceRoute);
                }
                (found.protocol, found.header) = (next, found.header + size);
            }
            IpProtocol::Ipv6Frag => {
                let [next, _, o0, o1, i0, i1, i2, i3, ..] = *rest else {
                    return Err(Unfit::Truncated);
                };
                let word = u16::from_be_bytes([o0, o1]);
                found.protocol = next.into();
                found.header += 8;
                let (offset, more) = (usize::from(word & !7), word & 1 != 0);
                // A part that is the whole is not put together with others,
                // whatever waits under its number (RFC 6946, 4).
                if offset != 0 || more {
                    let id = u32::from_be_bytes([i0, i1, i2, i3]);
                    found.fragment = Some(Fragment { id, offset, more });
                    return Ok(found);
                }
            }
            _ => return Ok(found),
        }
    }
    Err(Unfit::Truncated)
}

/// What follows an extension header, and its size.
fn extension(header: &[u8]) -> Result<(IpProtocol, usize), Unfit> {
    let [next, units, ..] = *header else { return Err(Unfit::Truncated) };
    let size = (usize::from(units) + 1) * 8;
    if size > header.len() { Err(Unfit::Truncated) } else { Ok((next.into(), size)) }
}

/// The two highest bits of an unknown option say what to do (RFC 8200, 4.2).
fn check_options(mut options: &[u8]) -> Result<(), Unfit> {
    while let [kind, rest @ ..] = options {
        if *kind == 0 {
            options = rest;
            continue;
        }
        if kind >> 6 != 0 {
            return Err(Unfit::Option(*kind));
        }
        let length = usize::from(*rest.first().ok_or(Unfit::Truncated)?);
        options = rest.get(1 + length..).ok_or(Unfit::Truncated)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
