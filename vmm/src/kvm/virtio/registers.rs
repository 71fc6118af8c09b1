//! The registers of one device (virtio 1.2, section 4.2.2), as the guest
//! reads and writes them. Accesses against the rules are ignored: reads give
//! 0, writes change nothing.

use vm_memory::GuestMemoryMmap;

use super::queue::Queue;
use super::status::{self, Change};

const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// "SBX", as it is shown in /sys.
const VENDOR: u32 = 0x0058_4253;
/// Config space begins here; below are registers of four bytes.
const CONFIG: u64 = 0x100;
/// A used buffer notification is always possible: the backend sends it past
/// this process, and the guest's handler looks at its rings.
const USED_BUFFER: u32 = 1;
const CONFIG_CHANGE: u32 = 2;
/// There is no shared memory region.
const NO_REGION: u32 = u32::MAX;
/// Most resets that a backend may have before it; a driver that starts the
/// device again beyond them fails it. Stops a guest that resets faster than
/// the backend can from growing the queue of jobs without end.
const MAX_RESETTING: u32 = 16;
const VERSION_1: u64 = 1 << 32;

/// The description of a device, by the table of devices and its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Device type (section 5).
    pub id: u32,
    pub features: u64,
    /// Largest size of each queue.
    pub queue_sizes: Vec<u16>,
    pub config: Vec<u8>,
}

/// A device that goes live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Feature bits that the driver took.
    pub features: u64,
    /// All queues; those that are not ready are not used.
    pub queues: Vec<Queue>,
}

impl Activation {
    /// Whether all queues that are to be used lie in memory.
    pub fn fits(&self, memory: &GuestMemoryMmap) -> bool {
        self.queues.iter().filter(|q| q.ready).all(|q| q.fits(memory))
    }
}

/// What a write asks of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    /// The backend is to start.
    Activate(Activation),
    /// The backend is to stop; [`Registers::reset_done`] is called then.
    Reset,
}

#[derive(Debug)]
pub struct Registers {
    shape: Shape,
    queues: Vec<Queue>,
    status: u8,
    accepted: u64,
    offered_half: u32,
    accepted_half: u32,
    selected: u32,
    config_changed: bool,
    /// Resets that the backend has not finished.
    resetting: u32,
}

impl Registers {
    /// The registers of a device after reset.
    pub fn new(shape: Shape) -> Self {
        let queues = shape.queue_sizes.iter().copied().map(Queue::new).collect();
        Self {
            shape,
            queues,
            status: 0,
            accepted: 0,
            offered_half: 0,
            accepted_half: 0,
            selected: 0,
            config_changed: false,
            resetting: 0,
        }
    }

    /// The guest reads at `offset`.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset >= CONFIG {
            self.read_config(offset - CONFIG, data);
        } else if data.len() == 4 {
            data.copy_from_slice(&self.register(offset).to_le_bytes());
        }
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let field = usize::try_from(offset)
            .ok()
            .and_then(|from| self.shape.config.get(from..from.checked_add(data.len())?));
        if let Some(field) = field {
            data.copy_from_slice(field);
        }
    }

    fn register(&self, offset: u64) -> u32 {
        match offset {
            0x00 => MAGIC,
            0x04 => VERSION,
            0x08 => self.shape.id,
            0x0c => VENDOR,
            0x10 => half(self.shape.features, self.offered_half),
            0x34 => self.queue().map_or(0, |q| u32::from(q.max)),
            0x44 => self.queue().map_or(0, |q| u32::from(q.ready)),
            0x60 => USED_BUFFER | if self.config_changed { CONFIG_CHANGE } else { 0 },
            0x70 => u32::from(self.visible_status()),
            0xb0..=0xbc if offset.is_multiple_of(4) => NO_REGION,
            _ => 0,
        }
    }

    /// Linux does not wait for a reset to finish before it begins anew, so
    /// the registers begin anew at once while the backend still stops. Until
    /// then NEEDS_RESET keeps the status from reading 0, for drivers that do
    /// wait, as section 2.4.2 has it.
    fn visible_status(&self) -> u8 {
        if self.resetting > 0 { self.status | status::NEEDS_RESET } else { self.status }
    }

    fn queue(&self) -> Option<&Queue> {
        self.queues.get(self.selected as usize)
    }

    /// The guest writes at `offset`.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        // None of our devices has a config field that the driver may write.
        let Ok(bytes) = <[u8; 4]>::try_from(data) else { return Effect::None };
        let value = u32::from_le_bytes(bytes);
        match offset {
            0x14 => self.offered_half = value,
            0x20 => self.accept(value),
            0x24 => self.accepted_half = value,
            0x30 => self.selected = value,
            0x38 => self.change_queue(|q| q.resize(value)),
            0x44 => self.make_ready(value),
            0x64 => self.config_changed &= value & CONFIG_CHANGE == 0,
            0x70 => return self.change_status(value),
            0x80 => self.change_queue(|q| set_low(&mut q.descriptors, value)),
            0x84 => self.change_queue(|q| set_high(&mut q.descriptors, value)),
            0x90 => self.change_queue(|q| set_low(&mut q.available, value)),
            0x94 => self.change_queue(|q| set_high(&mut q.available, value)),
            0xa0 => self.change_queue(|q| set_low(&mut q.used, value)),
            0xa4 => self.change_queue(|q| set_high(&mut q.used, value)),
            // 0x50 among them: a notification of a queue that is one never
            // comes here, KVM passes it to the backend.
            _ => {}
        }
        Effect::None
    }

    fn accept(&mut self, value: u32) {
        if self.status != status::ACKNOWLEDGE | status::DRIVER {
            return;
        }
        match self.accepted_half {
            0 => set_low(&mut self.accepted, value),
            1 => set_high(&mut self.accepted, value),
            // A bit that does not exist cannot be taken.
            _ if value != 0 => self.accepted |= !self.shape.features,
            _ => {}
        }
    }

    fn make_ready(&mut self, value: u32) {
        if value == 1 {
            self.change_queue(|q| q.ready = true);
        } else if value == 0
            && self.is_negotiated()
            && let Some(queue) = self.queues.get_mut(self.selected as usize)
        {
            queue.ready = false;
        }
    }

    /// Between FEATURES_OK and DRIVER_OK.
    fn is_negotiated(&self) -> bool {
        self.status == status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK
    }

    /// A queue is set up after the negotiation, before DRIVER_OK and before
    /// it is ready (sections 3.1.1 and 4.2.2.2).
    fn change_queue(&mut self, change: impl FnOnce(&mut Queue)) {
        if !self.is_negotiated() {
            return;
        }
        if let Some(queue) = self.queues.get_mut(self.selected as usize)
            && !queue.ready
        {
            change(queue);
        }
    }

    fn change_status(&mut self, value: u32) -> Effect {
        // The register has eight bits in use; others are reserved.
        let wanted = value as u8;
        match status::change(self.status, wanted) {
            Change::Nothing | Change::Illegal => Effect::None,
            Change::Step => self.set_status(wanted),
            Change::Fail => self.set_status(self.status | status::FAILED),
            Change::Negotiate if self.is_acceptable() => self.set_status(wanted),
            Change::Negotiate => Effect::None,
            Change::Run if self.resetting >= MAX_RESETTING => {
                self.set_status(self.status | status::FAILED)
            }
            Change::Run => {
                self.set_status(wanted);
                Effect::Activate(Activation {
                    features: self.accepted,
                    queues: self.queues.clone(),
                })
            }
            Change::Reset => self.reset(),
        }
    }

    /// NEEDS_RESET is not the driver's to set or clear.
    fn set_status(&mut self, wanted: u8) -> Effect {
        let kept = self.status & status::NEEDS_RESET;
        self.status = (wanted & !status::NEEDS_RESET) | kept;
        Effect::None
    }

    fn is_acceptable(&self) -> bool {
        self.accepted & !self.shape.features == 0 && self.accepted & VERSION_1 != 0
    }

    fn reset(&mut self) -> Effect {
        let live = self.status & status::DRIVER_OK != 0;
        let resetting = self.resetting + u32::from(live);
        *self = Self { resetting, ..Self::new(self.shape.clone()) };
        if live { Effect::Reset } else { Effect::None }
    }

    /// The backend has stopped.
    pub fn reset_done(&mut self) {
        self.resetting = self.resetting.saturating_sub(1);
    }

    /// The device cannot go on. Returns whether the guest is to be
    /// interrupted (section 2.1.2).
    pub fn fail(&mut self) -> bool {
        let news = self.status & (status::DRIVER_OK | status::NEEDS_RESET) == status::DRIVER_OK;
        if news {
            self.status |= status::NEEDS_RESET;
            self.config_changed = true;
        }
        news
    }
}

fn half(features: u64, half: u32) -> u32 {
    match half {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

fn set_low(address: &mut u64, value: u32) {
    *address = (*address & !0xffff_ffff) | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = (*address & 0xffff_ffff) | u64::from(value) << 32;
}

#[cfg(test)]
mod tests;
