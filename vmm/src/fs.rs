//! The `fs` process: serves the pod's share. Sees no file but those of the
//! share, and no network.

use caps::Capability;
use sandbox_devices::{Fs, FsError};
use sandbox_vm_spec::devices::DeviceKind;
use sandbox_vm_spec::launch::{DeviceSocket, FsLaunch, Report};

use crate::backend::{Backend, BackendError};
use crate::control::{Control, ControlError, inherited};
use crate::jail::{self, Jail, JailError, Network, Root};

/// The guest's open files, and one for each inode that its kernel has cached:
/// what virtiofsd itself takes where the host allows it.
const MAX_FILES: u64 = 1_000_000;
/// What [`MAX_FILES`] inodes take.
const MAX_MEMORY: u64 = 512 << 20;
/// What acting as any user of the guest takes, and no more: root of the guest
/// is root of the share.
const CAPABILITIES: &[Capability] = &[
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_MKNOD,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// The process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim cannot be heard, or did not pass a descriptor.
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("the launch message has devices that fs cannot serve")]
    Devices,
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Serves until the engine goes away; the end of the shim ends the process.
pub fn run(launch: FsLaunch, control: &Control) -> Result<(), Error> {
    let [DeviceSocket { kind: DeviceKind::Fs, socket }] = launch.devices[..] else {
        return Err(Error::Devices);
    };
    let listener = inherited(socket, "vhost-user listener of the fs device")?;
    let own_fds = jail::own_fds()?;
    let files = jail::most_files(MAX_FILES);
    let memory = Some(MAX_MEMORY);
    Jail {
        root: Root::Share(launch.share),
        network: Network::None,
        capabilities: CAPABILITIES,
        files,
        memory,
    }
    .enter()?;
    control.watch()?;
    let device = Fs::new(&launch.tag, own_fds, files)?;
    let mut fs = Backend::serve(Box::new(device), listener, launch.config)?;
    control.report(&Report::Ready)?;
    fs.wait()?;
    Ok(())
}
