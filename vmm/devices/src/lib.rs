//! Device logic, written once: rings and guest memory, and nothing of KVM,
//! MMIO, vhost-user or async runtimes. The vhost-user adapter drives it in
//! production, unit tests and fuzz targets drive it directly.

mod device;

pub use device::{Device, DeviceError, QueueIo, Signals, Token};
