//! The header that virtio-net, and a tap with `IFF_VNET_HDR`, has before each
//! frame (virtio 1.2, section 5.1.6), in its modern form of 12 bytes.

use super::{Offload, Partial, SegmentKind, Segments};

/// Bytes of the header.
pub const HEADER: usize = 12;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// Why a header cannot be true of its frame.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    #[error("the frame is shorter than its offload header")]
    Short,
    /// The checksum would stand outside of the frame.
    #[error("the checksum at {start}+{offset} is outside of the frame's {length} bytes")]
    Checksum { start: u16, offset: u16, length: usize },
    /// A kind of segmentation that was not offered.
    #[error("segmentation of kind {0} was not offered")]
    Kind(u8),
    /// Segments without a size, or without a checksum request.
    #[error("segments of {size} bytes, checksum to be made: {checksum}")]
    Segments { size: u16, checksum: bool },
}

/// Reads what is before `frame`. The header's length field is only a hint and
/// not looked at; who needs it takes it from the frame's own headers.
pub fn parse(header: &[u8], frame: &[u8]) -> Result<Offload, Lie> {
    let &[flags, gso, _, _, s0, s1, c0, c1, o0, o1, _, _] = header else {
        return Err(Lie::Short);
    };
    let (size, start, offset) =
        (u16::from_le_bytes([s0, s1]), u16::from_le_bytes([c0, c1]), u16::from_le_bytes([o0, o1]));
    let partial = flags & NEEDS_CSUM != 0;
    if partial && usize::from(start) + usize::from(offset) + 2 > frame.len() {
        return Err(Lie::Checksum { start, offset, length: frame.len() });
    }
    let kind = match gso {
        GSO_NONE => None,
        GSO_TCPV4 => Some(SegmentKind::Tcp4),
        GSO_TCPV6 => Some(SegmentKind::Tcp6),
        other => return Err(Lie::Kind(other)),
    };
    if kind.is_some() && (size == 0 || !partial) {
        return Err(Lie::Segments { size, checksum: partial });
    }
    Ok(Offload {
        checksum: partial.then_some(Partial { start, offset }),
        segments: kind.map(|kind| Segments { kind, size, headers: 0 }),
    })
}

/// The header for a frame to the guest, with the number of buffers at 1.
pub fn emit(offload: Offload) -> [u8; HEADER] {
    let partial = offload.checksum.unwrap_or(Partial { start: 0, offset: 0 });
    let (kind, size, headers) = match offload.segments {
        Some(Segments { kind: SegmentKind::Tcp4, size, headers }) => (GSO_TCPV4, size, headers),
        Some(Segments { kind: SegmentKind::Tcp6, size, headers }) => (GSO_TCPV6, size, headers),
        None => (GSO_NONE, 0, 0),
    };
    let [h0, h1] = headers.to_le_bytes();
    let [s0, s1] = size.to_le_bytes();
    let [c0, c1] = partial.start.to_le_bytes();
    let [o0, o1] = partial.offset.to_le_bytes();
    let flags = if offload.checksum.is_some() { NEEDS_CSUM } else { 0 };
    [flags, kind, h0, h1, s0, s1, c0, c1, o0, o1, 1, 0]
}

#[cfg(test)]
mod tests;
