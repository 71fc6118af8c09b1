//! Frames of the guest, what the policy says to them, and the host's sockets.
//!
//! The [gate](gate) is what every frame of the guest passes first.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::indexing_slicing))]

pub mod checksum;
pub mod emit;
pub mod gate;
pub mod icmp;
pub mod neighbour;
pub mod outbox;
pub mod packet;
pub mod port;
pub mod tcp;
pub mod wheel;
