//! The `io` process: serves the rng and vsock devices. Sees no file but the
//! pod's vsock sockets.

use sandbox_devices::Rng;
use sandbox_vm_spec::launch::{IoLaunch, Report};

use crate::backend::{Backend, BackendError};
use crate::control::{Control, ControlError, inherited};
use crate::jail::{Jail, JailError, Root};

/// A connection each is what takes descriptors.
const MAX_FILES: u64 = 4096;
/// Every connection's buffer full, and as much again.
const MAX_MEMORY: u64 = 256 << 20;

/// The process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim cannot be heard, or did not pass a descriptor.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The jail could not be entered.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// A device cannot be served.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Serves until the engine goes away; the end of the shim ends the process.
pub fn run(launch: IoLaunch, control: &Control) -> Result<(), Error> {
    let rng = inherited(launch.rng, "vhost-user listener of the rng device")?;
    Jail {
        root: Root::Folder(launch.sockets),
        capabilities: &[],
        files: MAX_FILES,
        memory: Some(MAX_MEMORY),
    }
    .enter()?;
    control.watch()?;
    let mut rng = Backend::serve("rng", Rng::new(), rng, false)?;
    control.report(&Report::Ready)?;
    rng.wait()?;
    Ok(())
}
