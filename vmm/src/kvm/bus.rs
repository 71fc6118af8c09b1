//! Everything that an access of the guest can reach outside its memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandbox_vm_spec::launch::VmEnd;

use super::ports::Ports;
use super::virtio::Slots;

/// Ports and devices, shared by all vCPUs.
#[derive(Clone)]
pub struct Bus {
    ports: Arc<Mutex<Ports>>,
    slots: Arc<Slots>,
}

impl Bus {
    /// A bus with these on it.
    pub fn new(ports: Ports, slots: Arc<Slots>) -> Self {
        Self { ports: Arc::new(Mutex::new(ports)), slots }
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `in`.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        self.ports().read(port, data);
    }

    /// `out`; returns how the machine ends by that.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Option<VmEnd> {
        self.ports().write(port, data)
    }

    /// Completes the console log: the machine has ended.
    pub fn finish(&self) {
        self.ports().finish();
    }

    /// A load outside memory.
    pub fn memory_read(&self, address: u64, data: &mut [u8]) {
        self.slots.read(address, data);
    }

    /// A store outside memory.
    pub fn memory_write(&self, address: u64, data: &[u8]) {
        self.slots.write(address, data);
    }
}
