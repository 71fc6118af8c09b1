//! A NAT in user space: a guest's frames, the policy, and the host's sockets.
//!
//! A frame of the guest comes out of a [port] into the [stack](stack::Stack)
//! and first passes the [gate]. Where it wants to go is decided by the
//! [policy]; which names lead there, [dns] observes. What is allowed becomes
//! [sockets of the host](host). Each verdict is in the [audit]; what went over
//! the link may be [captured](pcap).
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::indexing_slicing))]

pub mod audit;
pub mod capture;
mod checksum;
pub mod counters;
mod deadlines;
pub mod dns;
mod echo;
mod emit;
mod ends;
pub mod env;
mod fragments;
pub mod gate;
pub mod host;
mod icmp;
pub mod listeners;
pub mod listing;
mod neighbour;
mod outbox;
mod packet;
pub mod pcap;
pub mod policy;
pub mod port;
pub mod stack;
mod tcp;
mod udp;
pub mod watch;
