use std::fs::File;
use std::io;
use std::sync::MutexGuard;

use sandbox_devices::Memory;
use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::Error;
use vm_memory::GuestMemoryAtomic;

type Atomic = GuestMemoryAtomic<Memory>;

/// [`VringMutex`], but for a kick that cannot be read: the crate ends the
/// device's thread for one, and it is normal when the driver stops a queue
/// while its last kick is being handled.
#[derive(Clone)]
pub struct Ring(VringMutex<Atomic>);

impl Ring {
    /// The queue's state, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, VringState<Atomic>> {
        self.0.get_mut()
    }
}

impl<'a> VringStateGuard<'a, Atomic> for Ring {
    type G = MutexGuard<'a, VringState<Atomic>>;
}

impl<'a> VringStateMutGuard<'a, Atomic> for Ring {
    type G = MutexGuard<'a, VringState<Atomic>>;
}

impl VringT<Atomic> for Ring {
    fn new(mem: Atomic, max_queue_size: u16) -> Result<Self, Error> {
        VringMutex::new(mem, max_queue_size).map(Self)
    }

    fn get_ref(&self) -> MutexGuard<'_, VringState<Atomic>> {
        self.0.get_ref()
    }

    fn get_mut(&self) -> MutexGuard<'_, VringState<Atomic>> {
        self.0.get_mut()
    }

    fn add_used(&self, desc_index: u16, len: u32) -> Result<(), Error> {
        self.0.add_used(desc_index, len)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.0.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, Error> {
        self.0.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), Error> {
        self.0.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, Error> {
        self.0.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.0.set_enabled(enabled);
    }

    fn set_queue_info(
        &self,
        desc_table: u64,
        avail_ring: u64,
        used_ring: u64,
    ) -> Result<(), Error> {
        self.0.set_queue_info(desc_table, avail_ring, used_ring)
    }

    fn queue_next_avail(&self) -> u16 {
        self.0.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.0.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, idx: u16) {
        self.0.set_queue_next_used(idx);
    }

    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.0.queue_used_idx()
    }

    fn set_queue_size(&self, num: u16) {
        self.0.set_queue_size(num);
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.0.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.0.set_queue_ready(ready);
    }

    fn set_kick(&self, file: Option<File>) {
        self.0.set_kick(file);
    }

    fn read_kick(&self) -> io::Result<bool> {
        Ok(self.0.read_kick().unwrap_or(false))
    }

    fn set_call(&self, file: Option<File>) {
        self.0.set_call(file);
    }

    fn set_err(&self, file: Option<File>) {
        self.0.set_err(file);
    }
}
