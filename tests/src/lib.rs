//! What the feature tests stand on: a bed of its own for each test, with a
//! private containerd, `ctr` and a direct client of the shim, and the check
//! that nothing is left when a test has ended.
//!
//! Drives binaries only. A test is a function of a [`Bed`]; [`tests!`] lists
//! the tests of a module, and `vm.rs` the modules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bed;
mod containerd;
mod ctr;
pub mod disk;
mod image;
mod initramfs;
pub mod lab;
mod leftovers;
pub mod network;
pub mod paths;
mod process;
mod runner;
mod sandbox;
mod shell;
mod shim;
mod spec;
mod wait;

pub use bed::Bed;
pub use containerd::{Containerd, Setup};
pub use ctr::{Output, Run, exec};
pub use initramfs::initramfs;
pub use network::Network;
pub use paths::{ctl_binary, has_kvm, ours as is_ours, shim_binary};
pub use process::Process;
pub use runner::{On, Test, find_programs, main};
pub use sandbox::{Sandbox, Wanted};
pub use shell::Shell;
pub use shim::{Rpc, Shim, code, command, open_reader, rootfs_mount};
pub use spec::{mount, spec};
pub use wait::{in_lab, patience, until};

/// Lists the tests of a module: `tests![Any exit_codes, Ours its_own_kernel]`.
/// `Any` holds for every containerd runtime and is proved against runc,
/// `Ours` only for microVMs.
#[macro_export]
macro_rules! tests {
    ($($on:ident $name:ident),* $(,)?) => {
        /// The tests of this module.
        pub const TESTS: &[$crate::Test] = &[$($crate::Test {
            module: module_path!(),
            name: stringify!($name),
            on: $crate::On::$on,
            body: $name,
        }),*];
    };
}
