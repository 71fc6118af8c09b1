//! The seam between device logic and whatever carries its queues.

use std::os::fd::RawFd;

use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

/// Names an fd that a device wants watched, in its own numbering.
pub type Token = u16;

/// One queue of a device, for the length of one call.
pub struct QueueIo<'a> {
    /// The queue's state.
    pub queue: &'a mut Queue,
    /// The guest's memory as it is now.
    pub memory: &'a GuestMemoryMmap,
}

/// Which queues the guest is to be interrupted for: bit n is queue n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals(pub u64);

/// The device cannot go on: the driver sees DEVICE_NEEDS_RESET (virtio 1.2
/// section 2.1.1) or a queue that stays silent, until it resets the device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The ring or a descriptor chain breaks the rules.
    #[error("queue {queue}: {reason}")]
    Ring {
        /// Index of the queue.
        queue: usize,
        /// Which rule.
        reason: String,
    },
    /// The host's side of the device failed.
    #[error("{what}: {source}")]
    Host {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Device logic: rings and guest memory only.
pub trait Device: Send {
    /// Device type (virtio 1.2 section 5).
    fn kind(&self) -> u32;
    /// Feature bits offered beside those that the carrier adds.
    fn features(&self) -> u64;
    /// Largest size of each queue; its length is the number of queues.
    fn queue_sizes(&self) -> &[u16];
    /// Config space (virtio 1.2, the device's section "Device configuration layout").
    fn config(&self) -> &[u8];
    /// Takes the acked features; returns the fds that [`Device::ready`] is called for.
    fn start(&mut self, acked: u64) -> Result<Vec<(RawFd, EventSet, Token)>, DeviceError>;
    /// The guest has kicked `queue`.
    fn kicked(&mut self, queue: usize, io: &mut [QueueIo]) -> Result<Signals, DeviceError>;
    /// A watched fd is ready.
    fn ready(
        &mut self,
        token: Token,
        set: EventSet,
        io: &mut [QueueIo],
    ) -> Result<Signals, DeviceError>;
    /// Drops all state that belongs to the guest's driver.
    fn reset(&mut self);
}
