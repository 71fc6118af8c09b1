//! Frames of the guest, what the policy says to them, and the host's sockets.
//!
//! So far: the [gate](gate), which every frame of the guest passes first.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod gate;
