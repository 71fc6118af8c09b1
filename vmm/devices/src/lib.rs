//! Device logic, written once: rings and guest memory, and nothing of KVM,
//! MMIO, vhost-user or async runtimes. The vhost-user adapter drives it in
//! production, unit tests and fuzz targets drive it directly.

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
pub use device::{Device, DeviceError, Signals, Token};
pub use fs::{Fs, FsError};
pub use memory::Memory;
pub use net::{Net, NetConfig};
pub use queue::{QueueIo, RingError};
pub use rng::Rng;
pub use vsock::{Vsock, VsockConfig};
