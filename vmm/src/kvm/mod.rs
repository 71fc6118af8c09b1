//! The kvm engine.

use sandbox_vm_spec::launch::KvmLaunch;

use crate::control::Control;

/// The kvm engine cannot run the machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not in this build.
    #[error("this build of sandbox-vmm has no kvm engine; set engine = \"qemu\"")]
    NotBuilt,
}

/// Runs the machine until it ends.
pub fn run(_launch: KvmLaunch, _control: &Control) -> Result<(), Error> {
    Err(Error::NotBuilt)
}
