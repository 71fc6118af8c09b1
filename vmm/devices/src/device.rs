//! The seam between device logic and whatever carries its queues.

use std::os::fd::RawFd;

use sandbox_vm_spec::devices::DeviceKind;
use vmm_sys_util::epoll::EventSet;

use crate::queue::{QueueIo, RingError};

/// Names an fd that a device wants watched, in its own numbering.
pub type Token = u16;
/// An fd, the events that are watched, and the device's name for it.
pub type Watched = (RawFd, EventSet, Token);

/// Which queues the guest is to be interrupted for: bit n is queue n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals(pub u64);

impl Signals {
    /// Asks for an interrupt of `queue`.
    pub fn add(&mut self, queue: usize) {
        self.0 |= 1 << queue;
    }

    /// Whether an interrupt of `queue` is asked for.
    pub fn has(self, queue: usize) -> bool {
        self.0 & (1 << queue) != 0
    }

    /// Asks every queue of `io` whether its driver is to be interrupted.
    pub fn collect(io: &mut [QueueIo]) -> Result<Signals, DeviceError> {
        let mut signals = Signals::default();
        for (index, queue) in io.iter_mut().enumerate() {
            if queue.wants_signal()? {
                signals.add(index);
            }
        }
        Ok(signals)
    }
}

/// The device cannot go on: the driver sees DEVICE_NEEDS_RESET (virtio 1.2
/// section 2.1.1) or a queue that stays silent, until it resets the device.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The ring or a descriptor chain breaks the rules.
    #[error("queue {queue}")]
    Ring { queue: usize, source: RingError },
    /// A request that the device cannot answer, even with an error.
    #[error("queue {queue}: {reason}")]
    Request { queue: usize, reason: &'static str },
    /// The host's side of the device failed.
    #[error("{what}")]
    Host { what: &'static str, source: std::io::Error },
}

/// Device logic: rings and guest memory only.
///
/// Calls come from one thread at a time. After an error the device gets no
/// call but [`Device::reset`], and [`Device::ready`] without queues.
pub trait Device: Send {
    /// Which device; its queues and the size of its config space are those of
    /// [`DeviceKind::spec`].
    fn kind(&self) -> DeviceKind;
    /// Feature bits offered beside those that the carrier adds.
    fn features(&self) -> u64 {
        0
    }
    /// Config space (virtio 1.2, the device's section "Device configuration layout").
    fn config(&self) -> &[u8] {
        &[]
    }
    /// The driver is there, with `acked` features, and has set up its queues.
    /// Returns the fds that [`Device::ready`] is called for; they stay open
    /// until after the next [`Device::reset`].
    fn start(&mut self, _acked: u64) -> Result<Vec<Watched>, DeviceError> {
        Ok(Vec::new())
    }
    /// Fds that [`Device::ready`] is called for whether there is a driver or
    /// not, as long as the device lives. Without a driver it gets no queues.
    fn standing(&self) -> Vec<Watched> {
        Vec::new()
    }
    /// The guest has kicked `queue`.
    fn kicked(&mut self, queue: usize, io: &mut [QueueIo]) -> Result<Signals, DeviceError>;
    /// A watched fd is ready.
    fn ready(
        &mut self,
        _token: Token,
        _set: EventSet,
        _io: &mut [QueueIo],
    ) -> Result<Signals, DeviceError> {
        Ok(Signals::default())
    }
    /// Drops all state that belongs to the guest's driver.
    fn reset(&mut self) {}
}
