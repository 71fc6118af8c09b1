//! IPv4 (RFC 791).

use smoltcp::wire::{IPV4_HEADER_LEN, Ipv4Packet};

use super::{Link, Refusal};

pub(super) fn check(link: &Link, payload: &[u8]) -> Result<(), Refusal> {
    if payload.len() < IPV4_HEADER_LEN {
        return Err(Refusal::Truncated("IPv4"));
    }
    let packet = Ipv4Packet::new_unchecked(payload);
    if packet.version() != 4 {
        return Err(Refusal::Version("IPv4"));
    }
    // Before anything that takes the header's word for its length.
    if usize::from(packet.header_len()) < IPV4_HEADER_LEN {
        return Err(Refusal::HeaderLength(packet.header_len()));
    }
    packet.check_len().map_err(|_| Refusal::Truncated("IPv4"))?;
    if !packet.verify_checksum() {
        return Err(Refusal::Checksum);
    }
    if !link.ipv4.contains(&packet.src_addr()) {
        return Err(Refusal::SourceIpv4(packet.src_addr()));
    }
    Ok(())
}
