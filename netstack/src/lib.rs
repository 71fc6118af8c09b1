//! Frames of the guest, what the policy says to them, and the host's sockets.
//!
//! A frame of the guest first passes the [gate]. Where it wants to go is
//! decided by the [policy](policy).
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::indexing_slicing))]

pub mod checksum;
pub mod counters;
pub mod emit;
pub mod env;
pub mod gate;
pub mod host;
pub mod icmp;
pub mod neighbour;
pub mod outbox;
pub mod packet;
pub mod policy;
pub mod port;
pub mod stack;
pub mod tcp;
pub mod wheel;
