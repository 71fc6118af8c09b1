//! `netstack-tap` beside the kernel: the same programs, in a pod's namespace
//! and in one that has the NAT for its only way into that pod's, are told the
//! same. Root is needed, and no virtual machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod behind;
mod errors;
mod inbound;
mod memory;
mod sockets;
