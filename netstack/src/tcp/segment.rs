//! A TCP segment's header, read once.

use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use crate::checksum;
use crate::emit::{ip_header, write_ip};

/// Bytes of a TCP header without options.
pub const HEADER: usize = 20;

/// Where the header has its flags.
pub const FLAGS: usize = 13;
/// Where it has its window.
pub const WINDOW: usize = 14;
/// Where it has its checksum.
pub const CHECKSUM: usize = 16;

/// The sender sends no more.
pub const FIN: u8 = 1;
/// The sender begins.
pub const SYN: u8 = 2;
/// The connection is no more.
pub const RST: u8 = 4;
/// The acknowledgement number counts.
pub const ACK: u8 = 16;

const END: u8 = 0;
const PAD: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;

/// The fields of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// First sequence number.
    pub seq: u32,
    /// Acknowledgement number, meaningful with [`ACK`].
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// The window field, unscaled.
    pub window: u16,
    /// Bytes of header with options.
    pub header: usize,
    /// Bytes of payload.
    pub payload: usize,
}

impl Segment {
    /// Reads a segment; `None` when it is cut short.
    pub fn parse(tcp: &[u8]) -> Option<Self> {
        let [f0, f1, t0, t1, s0, s1, s2, s3, a0, a1, a2, a3, offset, flags, w0, w1, ..] = *tcp
        else {
            return None;
        };
        let header = usize::from(offset >> 4) * 4;
        if header < HEADER {
            return None;
        }
        Some(Self {
            from: u16::from_be_bytes([f0, f1]),
            to: u16::from_be_bytes([t0, t1]),
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            flags,
            window: u16::from_be_bytes([w0, w1]),
            header,
            payload: tcp.len().checked_sub(header)?,
        })
    }

    /// Whether one of the flags is set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Opens a connection: a SYN, and nothing that contradicts it.
    pub fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// Sequence numbers that it takes.
    pub fn length(&self) -> u32 {
        u32::try_from(self.payload).unwrap_or(u32::MAX)
            + u32::from(self.has(SYN))
            + u32::from(self.has(FIN))
    }

    /// The reset that answers it (RFC 9293, 3.10.7.1), as an IP packet; none
    /// for a reset.
    pub fn reset(&self, guest: IpAddr, remote: IpAddr) -> Option<Vec<u8>> {
        if self.has(RST) {
            return None;
        }
        let (seq, ack) = if self.has(ACK) {
            (self.ack, None)
        } else {
            (0, Some(self.seq.wrapping_add(self.length())))
        };
        Some(reply(self, guest, remote, TcpControl::Rst, seq, ack))
    }
}

/// A bare segment in the other direction, with a whole checksum.
pub fn reply(
    to: &Segment,
    guest: IpAddr,
    remote: IpAddr,
    control: TcpControl,
    seq: u32,
    ack: Option<u32>,
) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: to.to,
        dst_port: to.from,
        control,
        seq_number: number(seq),
        ack_number: ack.map(number),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let header = ip_header(guest);
    let mut bytes = vec![0; header + repr.buffer_len()];
    write_ip(&mut bytes, remote, guest, IpProtocol::Tcp, repr.buffer_len());
    if let Some(tcp) = bytes.get_mut(header..) {
        let mut packet = TcpPacket::new_unchecked(tcp);
        repr.emit(
            &mut packet,
            &remote.into(),
            &guest.into(),
            &smoltcp::phy::ChecksumCapabilities::default(),
        );
    }
    bytes
}

/// Makes of a SYN in a connection that is open one that smoltcp challenges, as
/// it must be (RFC 9293, 3.10.7.4; RFC 5961, 4.2): without an acknowledgement it
/// drops it, and the guest that has forgotten the connection tries in vain. Out
/// of the window it answers whatever it is, and no more than once in a second.
/// The guest knows that it has `acked` arrived, and was sent all before `next`.
pub fn be_challenged(tcp: &mut [u8], acked: u32, next: u32) {
    const FAR: u32 = 1 << 30;
    for (at, number) in [(4, acked.wrapping_sub(FAR)), (8, next)] {
        if let Some(field) = tcp.get_mut(at..at + 4) {
            field.copy_from_slice(&number.to_be_bytes());
        }
    }
    if let Some(flags) = tcp.get_mut(FLAGS)
        && *flags & RST == 0
    {
        *flags = SYN | ACK;
    }
}

fn number(seq: u32) -> TcpSeqNumber {
    TcpSeqNumber(seq.cast_signed())
}

/// Whether the sum over segment and pseudo header is right.
pub fn verify(from: IpAddr, to: IpAddr, tcp: &[u8]) -> bool {
    checksum::sum(tcp, checksum::pseudo(from, to, IpProtocol::Tcp, tcp.len())) == 0xffff
}

/// How far `a` is ahead of `b`; negative when behind.
pub fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

/// The options of a SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Largest segment that the sender takes.
    pub mss: Option<u16>,
    /// Whether it scales windows.
    pub scale: Option<u8>,
}

/// Reads the options of a SYN and lowers its MSS to `limit`.
pub fn clamp_options(tcp: &mut [u8], limit: u16) -> Options {
    let mut found = Options::default();
    let header = tcp.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4);
    let Some(mut rest) = tcp.get_mut(HEADER..header) else { return found };
    loop {
        rest = match rest {
            [] | [END, ..] => return found,
            [PAD, tail @ ..] => tail,
            [MSS, 4, high, low, tail @ ..] => {
                let mss = u16::from_be_bytes([*high, *low]).min(limit);
                [*high, *low] = mss.to_be_bytes();
                found.mss = Some(mss).filter(|mss| *mss != 0);
                tail
            }
            [WINDOW_SCALE, 3, shift, tail @ ..] => {
                found.scale = Some(*shift);
                tail
            }
            [_, length, tail @ ..] => {
                // A length that does not cover itself would not advance.
                let Some(skip) = usize::from(*length).checked_sub(2) else { return found };
                tail.get_mut(skip..).unwrap_or_default()
            }
            [_] => return found,
        };
    }
}

#[cfg(test)]
mod tests;
