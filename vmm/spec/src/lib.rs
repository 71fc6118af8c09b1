//! What a virtual machine is, and how its processes are told.
//!
//! [`VmSpec`] says what the guest gets, [`cmdline`] what its kernel is told;
//! [`launch`] holds the messages that the shim and the processes of
//! `sandbox-vmm` exchange, [`network`] what is asked of a pod's network, and
//! [`disks`] how the guest gets files of the host as disks.

pub mod cmdline;
pub mod disks;
pub mod launch;
pub mod network;
mod spec;

pub use spec::{MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB, SpecError, VmSpec};
