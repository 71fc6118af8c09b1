//! Device logic on rings and guest memory, independent of KVM, MMIO, vhost-user
//! and async runtimes. In production the vhost-user adapter drives it; unit
//! tests and fuzz targets drive it directly.

pub mod blk;
pub mod chain;
mod device;
mod fs;
pub mod mailbox;
mod memory;
#[cfg(any(test, feature = "mock"))]
pub mod mock;
pub mod net;
mod queue;
mod rng;
mod vsock;

pub use blk::Blk;
pub use chain::{Chain, ChainError};
pub use device::{Device, DeviceError, Signals, Token, Watched};
pub use fs::{Fs, FsError};
pub use memory::Memory;
pub use net::{Net, NetConfig};
pub use queue::{QueueIo, RingError};
pub use rng::Rng;
pub use vsock::{Vsock, VsockConfig};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn config_spaces_are_as_long_as_in_the_table() {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let sockets = directory.path().into();
        let vsock = VsockConfig { cid: 3, listener, sockets, guest_ports: vec![] };
        let own_fds = std::fs::File::open("/proc/self/fd").unwrap();
        let devices: [Box<dyn Device>; 4] = [
            Box::new(Rng::new()),
            Box::new(Vsock::new(vsock).unwrap()),
            Box::new(Blk::new().unwrap().0),
            Box::new(Fs::new("share", own_fds.into(), 1024).unwrap()),
        ];
        for device in devices {
            let spec = device.kind().spec();
            assert_eq!(device.config().len(), spec.config_len as usize, "{}", spec.name);
        }
    }
}
