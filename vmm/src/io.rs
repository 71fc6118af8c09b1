//! The `io` process: serves the rng, vsock, net and blk devices. Sees no file
//! but the pod's vsock sockets and the disks that the shim gives it, and no
//! network but the pod's.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use sandbox_devices::{Rng, Vsock, VsockConfig};
use sandbox_vm_spec::launch::{IoLaunch, Report};

use crate::backend::{Backend, BackendError};
use crate::control::{Control, ControlError, close_strangers, inherited};
use crate::disks::{self, Disks};
use crate::jail::{Jail, JailError, Network, Root};
use crate::network::{self, Begun, Prepared};

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
    /// The pod's network cannot be served.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The pod's disks cannot be served.
    #[error(transparent)]
    Disks(#[from] disks::Error),
}

/// Serves until the engine goes away; the end of the shim ends the process.
pub fn run(launch: IoLaunch, control: &Control) -> Result<(), Error> {
    let rng = inherited(launch.rng, "vhost-user listener of the rng device")?;
    let vsock = inherited(launch.vsock, "vhost-user listener of the vsock device")?;
    let listener = inherited(launch.listener, "listener for connections to the guest")?;
    let network = launch.network.map(Prepared::take).transpose()?;
    let disks = launch.disks.map(Disks::take).transpose()?;
    close_strangers()?;
    jail(launch.sockets, network.as_ref()).enter()?;
    let network = network.map(Prepared::begin).transpose()?;
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
    let net = network.map(Begun::serve).transpose()?;
    let disks = disks.map(Disks::serve).transpose()?;
    control.report(&Report::Ready)?;
    vsock.wait()?;
    rng.wait()?;
    if let Some(net) = net {
        net.wait()?;
    }
    if let Some(mut disks) = disks {
        disks.wait()?;
    }
    Ok(())
}

fn jail(sockets: PathBuf, network: Option<&Prepared>) -> Jail {
    let root = Root::Folder(sockets);
    match network {
        None => Jail {
            root,
            network: Network::None,
            capabilities: &[],
            files: MAX_FILES,
            memory: Some(MAX_MEMORY),
        },
        Some(network) => Jail {
            root,
            network: network.namespace(),
            capabilities: network.capabilities(),
            files: MAX_FILES + network::MAX_FILES,
            memory: Some(MAX_MEMORY + network::MAX_MEMORY),
        },
    }
}
