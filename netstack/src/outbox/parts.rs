use smoltcp::wire::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProtocol, Ipv4Packet, Ipv6Packet};

/// Bytes of IPv6's header for parts.
const PART: usize = 8;

/// Cuts an IP packet without options into parts that fit the MTU.
pub(super) fn cut(packet: &[u8], mtu: u16, id: u32) -> impl Iterator<Item = Vec<u8>> {
    let v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let (header, extra) = if v4 { (IPV4_HEADER_LEN, 0) } else { (IPV6_HEADER_LEN, PART) };
    let (head, payload) = packet.split_at_checked(header).unwrap_or_default();
    // Parts in the middle end where another can begin.
    let size = (usize::from(mtu).saturating_sub(header + extra) & !7).max(8);
    let last = payload.len().div_ceil(size).saturating_sub(1);
    payload.chunks(size).enumerate().map(move |(number, piece)| {
        let (offset, more) = (number * size, number != last);
        let mut part = head.to_vec();
        let offset = u16::try_from(offset).unwrap_or(u16::MAX) & !7;
        if v4 {
            head_ipv4(&mut part, piece.len(), offset, more, id);
        } else {
            head_ipv6(&mut part, piece.len(), offset, more, id);
        }
        part.extend_from_slice(piece);
        part
    })
}

fn head_ipv4(head: &mut [u8], payload: usize, offset: u16, more: bool, id: u32) {
    let length = IPV4_HEADER_LEN + payload;
    let mut packet = Ipv4Packet::new_unchecked(head);
    packet.set_total_len(u16::try_from(length).unwrap_or(u16::MAX));
    packet.set_ident(u16::try_from(id & 0xffff).unwrap_or(0));
    packet.set_dont_frag(false);
    packet.set_more_frags(more);
    packet.set_frag_offset(offset);
    packet.fill_checksum();
}

fn head_ipv6(head: &mut Vec<u8>, payload: usize, offset: u16, more: bool, id: u32) {
    let mut packet = Ipv6Packet::new_unchecked(head.as_mut_slice());
    let protocol = packet.next_header();
    packet.set_payload_len(u16::try_from(PART + payload).unwrap_or(u16::MAX));
    packet.set_next_header(IpProtocol::Ipv6Frag);
    let [o0, o1] = (offset | u16::from(more)).to_be_bytes();
    let [i0, i1, i2, i3] = id.to_be_bytes();
    head.extend_from_slice(&[protocol.into(), 0, o0, o1, i0, i1, i2, i3]);
}
