//! The `io` process: serves the rng and vsock devices. Sees no file but the
//! pod's vsock sockets.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use sandbox_devices::{Rng, Vsock, VsockConfig};
use sandbox_vm_spec::launch::{IoLaunch, Report};

use crate::backend::{Backend, BackendError};
use crate::control::{Control, ControlError, close_strangers, inherited};
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
    /// The vsock device cannot be made.
    #[error("cannot prepare the vsock device")]
    Vsock(#[source] io::Error),
    /// A device cannot be served.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Serves until the engine goes away; the end of the shim ends the process.
pub fn run(launch: IoLaunch, control: &Control) -> Result<(), Error> {
    let rng = inherited(launch.rng, "vhost-user listener of the rng device")?;
    let vsock = inherited(launch.vsock, "vhost-user listener of the vsock device")?;
    let listener = inherited(launch.listener, "listener for connections to the guest")?;
    close_strangers()?;
    Jail {
        root: Root::Folder(launch.sockets),
        capabilities: &[],
        files: MAX_FILES,
        memory: Some(MAX_MEMORY),
    }
    .enter()?;
    control.watch()?;
    let device = Vsock::new(VsockConfig {
        cid: launch.cid,
        listener: UnixListener::from(listener),
        sockets: PathBuf::from("/"),
        guest_ports: launch.guest_ports,
    });
    let device = device.map_err(Error::Vsock)?;
    let mut vsock = Backend::serve("vsock", device, vsock, true)?;
    let mut rng = Backend::serve("rng", Rng::new(), rng, false)?;
    control.report(&Report::Ready)?;
    vsock.wait()?;
    rng.wait()?;
    Ok(())
}
