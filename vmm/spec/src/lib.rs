//! The protocols between the shim and the processes of `sandbox-vmm`.
//!
//! [`VmSpec`] is the size of a guest, [`cmdline`] its kernel's command line,
//! [`devices`] the table of its devices. [`launch`] holds the messages that
//! start a process and the reports that it sends, [`network`] the requests to
//! a pod's network, and [`disks`] those that attach files of the host.

pub mod cmdline;
pub mod devices;
pub mod disks;
pub mod failure;
mod fd;
pub mod launch;
pub mod network;
mod spec;

pub use fd::Fd;
pub use spec::{MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB, SpecError, VmSpec};
