//! The port: where frames come from the guest and go to it.
//!
//! The stack knows nothing of what carries its frames. A tap device, the rings
//! of virtio-net and a queue in memory are all one to it, as long as they say
//! with each frame what the sender left undone ([`Offload`]).

mod memory;
mod vnet;

pub use memory::MemoryPort;
pub use vnet::{HEADER as VNET_HEADER, Lie, emit as emit_vnet, parse as parse_vnet};

/// What a frame's sender left for the receiver's end to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum is only the pseudo header's sum.
    pub checksum: Option<Partial>,
    /// The frame is to be cut into segments.
    pub segments: Option<Segments>,
}

/// Where a checksum has still to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// First byte that it covers, from the start of the frame.
    pub start: u16,
    /// Where it goes, from `start`.
    pub offset: u16,
}

/// How a frame longer than the link's MTU is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// What is cut.
    pub kind: SegmentKind,
    /// Bytes of payload in each segment, never 0.
    pub size: u16,
    /// Bytes of headers in front of the payload, repeated in each segment.
    pub headers: u16,
}

/// What can be cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

/// What the guest takes, as its driver agreed on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Frames whose checksum is partial.
    pub checksum: bool,
    /// Frames of up to 64 KiB that are to be segmented. Needs `checksum`.
    pub segments: bool,
}

/// A frame of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of it in the buffer.
    pub length: usize,
    /// What the guest left undone.
    pub offload: Offload,
}

/// The guest's link.
pub trait Port {
    /// Copies the guest's next frame into `buffer`, which holds the longest
    /// frame there may be. `None` when there is none for now. What is not a
    /// frame at all (no room for its headers, an offload that is a lie) the
    /// port drops and counts itself.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received>;

    /// Whether a frame of this many bytes could be transmitted now.
    fn room(&mut self, length: usize) -> bool;

    /// Hands a frame to the guest; false when it is full.
    fn transmit(&mut self, frame: &[u8], offload: Offload) -> bool;

    /// The turn is over: signal the guest, once, if there is something to see.
    fn end_batch(&mut self);
}
