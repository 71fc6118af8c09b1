//! ARP (RFC 826): the guest speaks for its own addresses.

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr};

use super::{Link, Refusal};

pub(super) fn check(link: &Link, payload: &[u8]) -> Result<(), Refusal> {
    let packet = ArpPacket::new_checked(payload).map_err(|_| Refusal::Truncated("ARP"))?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).map_err(|_| Refusal::ArpKind)?
    else {
        return Err(Refusal::ArpKind);
    };
    if !matches!(operation, ArpOperation::Request | ArpOperation::Reply) {
        return Err(Refusal::ArpKind);
    }
    let own = link.ipv4.contains(&source_protocol_addr);
    // A probe (RFC 5227, section 2.1.1): "does anyone have this address of mine?"
    let probe = operation == ArpOperation::Request
        && source_protocol_addr.is_unspecified()
        && link.ipv4.contains(&target_protocol_addr);
    if source_hardware_addr != link.mac || !(own || probe) {
        return Err(Refusal::ArpSender(source_protocol_addr, source_hardware_addr));
    }
    Ok(())
}
