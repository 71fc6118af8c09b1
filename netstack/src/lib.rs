//! Frames of the guest, what the policy says to them, and the host's sockets.
//!
//! A frame of the guest first passes the [gate]. Where it wants to go is
//! decided by the [policy](policy).
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod gate;
pub mod policy;
