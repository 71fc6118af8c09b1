//! TCP: each flow of the guest is one of the host.

pub mod guard;
pub mod segment;
