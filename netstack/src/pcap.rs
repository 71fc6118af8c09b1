//! Captures as pcapng (draft-ietf-opsawg-pcapng): what went over the link,
//! each frame with its flow and the verdict on it as a comment, for Wireshark.

mod ring;
mod writer;

pub use ring::{Ring, Segment};
pub use writer::{MAX_COMMENT, MAX_SNAP, Way, Writer};

#[cfg(test)]
mod tests;
