//! What a guest sends.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber,
};

pub const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const GUEST4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const GUEST: IpAddr = IpAddr::V4(GUEST4);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
pub const MTU: u16 = 1500;
/// A header that leaves nothing undone.
pub const PLAIN: [u8; 12] = [0; 12];
/// NEEDS_CSUM for TCP over IPv4 without options.
pub const PARTIAL: [u8; 12] = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];

/// Bytes of the headers of Ethernet and IPv4.
const ETHERNET: usize = 14;
const IPV4: usize = 20;

fn ethernet(ethertype: EthernetProtocol, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET + payload];
    let repr = EthernetRepr {
        src_addr: EthernetAddress(GUEST_MAC),
        dst_addr: EthernetAddress(sandbox_vm_spec::network::GATEWAY_MAC),
        ethertype,
    };
    repr.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    bytes
}

/// Who has the gateway's address?
pub fn arp() -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(GUEST_MAC),
        source_protocol_addr: GUEST4,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: GATEWAY,
    };
    let mut bytes = ethernet(EthernetProtocol::Arp, repr.buffer_len());
    repr.emit(&mut ArpPacket::new_unchecked(&mut bytes[ETHERNET..]));
    bytes
}

/// Whether it is the answer to [`arp`].
pub fn is_arp_reply(frame: &[u8]) -> bool {
    frame.len() == 42 && frame[20..22] == [0, 2] && frame[28..32] == GATEWAY.octets()
}

fn ipv4(next_header: IpProtocol, payload: usize) -> Vec<u8> {
    let mut bytes = ethernet(EthernetProtocol::Ipv4, IPV4 + payload);
    let repr = Ipv4Repr {
        src_addr: GUEST4,
        dst_addr: SERVER,
        next_header,
        payload_len: payload,
        hop_limit: 64,
    };
    let checksums = ChecksumCapabilities::default();
    repr.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[ETHERNET..]), &checksums);
    bytes
}

/// A segment to the server whose checksum is left to whoever needs it.
pub fn tcp(control: TcpControl, seq: u32, ack: Option<u32>, payload: &[u8]) -> Vec<u8> {
    let number = |number: u32| TcpSeqNumber(number as i32);
    let repr = TcpRepr {
        src_port: 40_000,
        dst_port: 80,
        control,
        seq_number: number(seq),
        ack_number: ack.map(number),
        window_len: 65_535,
        window_scale: None,
        max_seg_size: (control == TcpControl::Syn).then_some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let mut bytes = ipv4(IpProtocol::Tcp, repr.buffer_len());
    let mut packet = TcpPacket::new_unchecked(&mut bytes[ETHERNET + IPV4..]);
    let (from, to) = (IpAddress::Ipv4(GUEST4), IpAddress::Ipv4(SERVER));
    repr.emit(&mut packet, &from, &to, &ChecksumCapabilities::ignored());
    bytes
}

/// Number, acknowledgement and payload of a segment to the guest.
pub fn segment(frame: &[u8]) -> (u32, u32, Vec<u8>) {
    let packet = TcpPacket::new_unchecked(&frame[ETHERNET + IPV4..]);
    let (seq, ack) = (packet.seq_number().0 as u32, packet.ack_number().0 as u32);
    (seq, ack, packet.payload().to_vec())
}
