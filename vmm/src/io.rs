//! The `io` process: serves the devices of [`Server::Io`]. Sees no file but the
//! pod's vsock sockets and the disks that the shim attaches, and no network but
//! the pod's.
//!
//! [`Server::Io`]: sandbox_vm_spec::devices::Server::Io

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use sandbox_devices::{Device, Rng, Vsock, VsockConfig};
use sandbox_vm_spec::devices::DeviceKind;
use sandbox_vm_spec::launch::{DeviceSocket, IoLaunch, Report};

use crate::backend::{Backend, BackendError};
use crate::control::{Control, ControlError, inherited};
use crate::disks;
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
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error("cannot prepare the vsock device")]
    Vsock(#[source] io::Error),
    /// The launch message has a device and not what it needs.
    #[error("the launch message has a {0} device that io cannot serve")]
    Device(&'static str),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Network(#[from] network::Error),
    #[error(transparent)]
    Disks(#[from] disks::DisksError),
}

/// Serves until the engine goes away; the end of the shim ends the process.
pub fn run(launch: IoLaunch, control: &Control) -> Result<(), Error> {
    let mut sockets = Vec::new();
    for DeviceSocket { kind, socket } in launch.devices {
        sockets.push((kind, inherited(socket, "vhost-user listener of a device")?));
    }
    let listener = inherited(launch.listener, "listener for connections to the guest")?;
    let network = launch.network.map(Prepared::take).transpose()?;
    let disks = launch.disks.map(|fd| inherited(fd, "socket for disk requests")).transpose()?;
    jail(launch.sockets, network.as_ref()).enter()?;
    let network = network.map(Prepared::begin).transpose()?;
    control.watch()?;
    let vsock = VsockConfig {
        cid: launch.cid,
        listener: UnixListener::from(listener),
        sockets: PathBuf::from("/"),
        guest_ports: launch.guest_ports,
    };
    let mut host = Host { vsock: Some(vsock), network, disks, audit: None };
    let mut backends = Vec::new();
    for (kind, listener) in sockets {
        backends.push(host.serve(kind, listener)?);
    }
    control.report(&Report::Ready)?;
    for mut backend in backends {
        backend.wait()?;
    }
    if let Some(audit) = host.audit {
        audit.finish();
    }
    Ok(())
}

/// The host's side of the devices; each is taken once.
struct Host {
    vsock: Option<VsockConfig>,
    network: Option<Begun>,
    disks: Option<OwnedFd>,
    /// Writes the audit of a network that is served.
    audit: Option<network::Writer>,
}

impl Host {
    fn serve(&mut self, kind: DeviceKind, listener: OwnedFd) -> Result<Backend, Error> {
        let missing = Error::Device(kind.spec().name);
        let device: Box<dyn Device> = match kind {
            DeviceKind::Rng => Box::new(Rng::new()),
            DeviceKind::Vsock => {
                let config = self.vsock.take().ok_or(missing)?;
                Box::new(Vsock::new(config).map_err(Error::Vsock)?)
            }
            DeviceKind::Blk => Box::new(disks::start(self.disks.take().ok_or(missing)?)?),
            DeviceKind::Net => {
                let (backend, audit) = self.network.take().ok_or(missing)?.serve(listener)?;
                self.audit = Some(audit);
                return Ok(backend);
            }
            DeviceKind::Fs => return Err(missing),
        };
        Ok(Backend::serve(device, listener, kind.spec().config_len > 0)?)
    }
}

fn jail(sockets: PathBuf, network: Option<&Prepared>) -> Jail {
    let root = Root::Directory(sockets);
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
