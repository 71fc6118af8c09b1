use std::io::{self, Write};
use std::time::Duration;

/// Most bytes of a frame that are kept: a whole one of segmentation offload.
pub const MAX_SNAP: usize = 262_144;
/// Most bytes of a comment. It is made here, but of a file's words.
pub const MAX_COMMENT: usize = 1024;

mod block {
    pub const SECTION: u32 = 0x0a0d_0d0a;
    pub const INTERFACE: u32 = 1;
    pub const PACKET: u32 = 6;
}
mod option {
    pub const END: u16 = 0;
    pub const COMMENT: u16 = 1;
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 2;
    pub const RESOLUTION: u16 = 9;
}
/// Ethernet, with its header.
const LINKTYPE_ETHERNET: u16 = 1;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the guest.
    In,
    /// From the guest.
    Out,
}

/// Writes a section of one interface.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    snap: usize,
}

impl<W: Write> Writer<W> {
    /// Writes the section header, and the interface of this name.
    pub fn new(mut to: W, interface: &str) -> io::Result<Self> {
        to.write_all(&head(interface))?;
        Ok(Self { to, snap: MAX_SNAP })
    }

    /// Keeps only so many bytes of each frame from now on.
    pub fn keep(&mut self, snap: usize) {
        self.snap = snap.min(MAX_SNAP);
    }

    /// Writes a frame with the time since 1970 and a comment, which may be
    /// empty. Answers how many bytes that took.
    pub fn frame(
        &mut self,
        wall: Duration,
        way: Way,
        frame: &[u8],
        comment: &str,
    ) -> io::Result<usize> {
        let block = packet(wall, way, frame, comment, self.snap);
        self.to.write_all(&block)?;
        Ok(block.len())
    }

    /// What it writes to.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.to
    }
}

/// The section's and the interface's block.
pub(super) fn head(interface: &str) -> Vec<u8> {
    let mut section = vec![];
    // Byte order, version 1.0, and no length of the section.
    section.extend(0x1a2b_3c4d_u32.to_le_bytes());
    section.extend([1, 0, 0, 0]);
    section.extend(u64::MAX.to_le_bytes());
    let mut described = vec![];
    described.extend(LINKTYPE_ETHERNET.to_le_bytes());
    described.extend([0, 0]);
    described.extend((MAX_SNAP as u32).to_le_bytes());
    option(&mut described, option::NAME, cut(interface).as_bytes());
    // Nanoseconds.
    option(&mut described, option::RESOLUTION, &[9]);
    option(&mut described, option::END, &[]);
    [block(block::SECTION, &section), block(block::INTERFACE, &described)].concat()
}

pub(super) fn packet(
    wall: Duration,
    way: Way,
    frame: &[u8],
    comment: &str,
    snap: usize,
) -> Vec<u8> {
    let kept = frame.get(..frame.len().min(snap)).unwrap_or_default();
    let nanos = wall.as_nanos();
    let mut body = Vec::with_capacity(kept.len() + comment.len() + 64);
    body.extend(0_u32.to_le_bytes());
    body.extend(((nanos >> 32) as u32).to_le_bytes());
    body.extend((nanos as u32).to_le_bytes());
    body.extend((kept.len() as u32).to_le_bytes());
    body.extend(u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.extend(kept);
    pad(&mut body);
    let direction: u32 = match way {
        Way::In => 1,
        Way::Out => 2,
    };
    option(&mut body, option::FLAGS, &direction.to_le_bytes());
    if !comment.is_empty() {
        option(&mut body, option::COMMENT, cut(comment).as_bytes());
    }
    option(&mut body, option::END, &[]);
    block(block::PACKET, &body)
}

/// At most [`MAX_COMMENT`] bytes of it, and no half of a character.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_COMMENT)).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A block: its kind, its length before and behind what it holds.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 12).unwrap_or_default().to_le_bytes();
    [&kind.to_le_bytes(), &length[..], body, &length].concat()
}
