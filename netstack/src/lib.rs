//! Frames of the guest, what the policy says to them, and the host's sockets.
//!
//! A frame of the guest first passes the [gate]. Where it wants to go is
//! decided by the [policy](policy).
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::indexing_slicing))]

mod checksum;
pub mod counters;
mod echo;
mod emit;
pub mod env;
mod fragments;
pub mod gate;
pub mod host;
mod icmp;
mod neighbour;
mod outbox;
mod packet;
pub mod policy;
pub mod port;
pub mod stack;
mod tcp;
mod udp;
mod wheel;
