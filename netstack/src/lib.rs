//! Frames of the guest, what the policy says to them, and the host's sockets.
//!
//! A frame of the guest first passes the [gate]. Where it wants to go is
//! decided by the [policy]; which names lead there, [dns] observes. Each
//! verdict is in the [audit]; what went over the link may be [captured](pcap).
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

pub mod audit;
pub mod dns;
pub mod gate;
pub mod pcap;
pub mod policy;
