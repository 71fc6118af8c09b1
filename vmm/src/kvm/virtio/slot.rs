//! A device's place in the machine: its registers, the eventfds that tie it
//! to KVM, and the way to the thread that speaks with its backend.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_ioctls::{IoEventAddress, VmFd};
use sandbox_vm_spec::devices::DeviceSpec;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::super::layout;
use super::{Activation, Effect, Registers, Shape};

/// Offset of QueueNotify (virtio 1.2, section 4.2.2).
const QUEUE_NOTIFY: u64 = 0x50;

/// A device could not be tied to KVM.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot create an eventfd for the {device} device")]
    EventFd { device: &'static str, source: std::io::Error },
    #[error("KVM_IRQFD failed for interrupt {irq} of the {device} device")]
    Interrupt { device: &'static str, irq: u32, source: kvm_ioctls::Error },
    #[error("KVM_IOEVENTFD failed for the {device} device")]
    Notify { device: &'static str, source: kvm_ioctls::Error },
    #[error("{0} devices requested; a machine has at most {max}", max = layout::MAX_SLOTS)]
    TooMany(usize),
}

/// Work for the thread that speaks with the backends.
#[derive(Debug)]
pub enum Job {
    /// The guest has set the device of this slot up.
    Activate(usize, Activation),
    /// The guest resets the device of this slot.
    Reset(usize),
}

#[derive(Debug)]
pub struct Slot {
    kind: &'static DeviceSpec,
    registers: Mutex<Registers>,
    /// The backend interrupts the guest by it.
    pub call: EventFd,
    /// The backend signals a fatal error by it.
    pub error: EventFd,
    /// The guest notifies the backend by them, one per queue.
    pub kicks: Vec<EventFd>,
}

impl Slot {
    /// A device after reset.
    pub fn new(kind: &'static DeviceSpec, shape: Shape) -> Result<Self, Error> {
        let eventfd = || {
            EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
                .map_err(|source| Error::EventFd { device: kind.name, source })
        };
        let kicks = shape.queue_sizes.iter().map(|_| eventfd()).collect::<Result<_, _>>()?;
        let registers = Mutex::new(Registers::new(shape));
        Ok(Self { kind, registers, call: eventfd()?, error: eventfd()?, kicks })
    }

    /// Registers interrupts and notifications with KVM, past this process.
    fn connect(&self, vm: &VmFd, index: usize) -> Result<(), Error> {
        let (device, irq) = (self.kind.name, layout::slot_irq(index));
        vm.register_irqfd(&self.call, irq).map_err(|source| Error::Interrupt {
            device,
            irq,
            source,
        })?;
        let notify = IoEventAddress::Mmio(layout::slot_address(index) + QUEUE_NOTIFY);
        for (queue, kick) in self.kicks.iter().enumerate() {
            vm.register_ioevent(kick, &notify, queue as u32)
                .map_err(|source| Error::Notify { device, source })?;
        }
        Ok(())
    }

    /// Readable when the backend cannot go on.
    pub fn error_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the eventfd lives as long as self, and so does the borrow.
        unsafe { BorrowedFd::borrow_raw(self.error.as_raw_fd()) }
    }

    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backend has stopped: the guest's reset is complete. Drops earlier
    /// notifications.
    pub fn reset_done(&self) {
        for eventfd in self.kicks.iter().chain([&self.error]) {
            // EAGAIN is fine: the eventfd is already drained.
            let _ = eventfd.read();
        }
        self.registers().reset_done();
    }

    /// Marks the device as in need of a reset and interrupts the guest.
    pub fn fail(&self) {
        // Empty when the failure was found here.
        let _ = self.error.read();
        if self.registers().fail() {
            // Fails on an overflow only: the guest is interrupted all the same.
            let _ = self.call.write(1);
        }
    }
}

/// All devices of a machine, at their addresses.
#[derive(Debug)]
pub struct Slots {
    slots: Vec<Slot>,
    jobs: Sender<Job>,
}

impl Slots {
    /// Takes the devices; what the guest asks of their backends goes to `jobs`.
    pub fn new(slots: Vec<Slot>, jobs: Sender<Job>) -> Result<Self, Error> {
        if slots.len() > layout::MAX_SLOTS {
            return Err(Error::TooMany(slots.len()));
        }
        Ok(Self { slots, jobs })
    }

    /// Ties all devices to `vm`.
    pub fn connect(&self, vm: &VmFd) -> Result<(), Error> {
        self.slots.iter().enumerate().try_for_each(|(index, slot)| slot.connect(vm, index))
    }

    /// The device in slot `index`.
    pub fn get(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// The guest reads `data.len()` bytes at `address`: ones where nothing is.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address) {
            Some((_, slot, offset)) => slot.registers().read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// The guest writes `data` at `address`.
    pub fn write(&self, address: u64, data: &[u8]) {
        let Some((index, slot, offset)) = self.find(address) else { return };
        // Sent under the lock: two processors that write at once must not
        // have their jobs change places.
        let mut registers = slot.registers();
        let job = match registers.write(offset, data) {
            Effect::None => return,
            Effect::Activate(activation) => Job::Activate(index, activation),
            Effect::Reset => Job::Reset(index),
        };
        // The thread that takes jobs ends only with the process.
        let _ = self.jobs.send(job);
    }

    fn find(&self, address: u64) -> Option<(usize, &Slot, u64)> {
        let from_start = address.checked_sub(layout::SLOTS_START)?;
        let index = usize::try_from(from_start / layout::SLOT_SIZE).ok()?;
        Some((index, self.slots.get(index)?, from_start % layout::SLOT_SIZE))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use sandbox_vm_spec::devices::DeviceKind;

    use super::*;

    fn slots() -> (Slots, mpsc::Receiver<Job>) {
        let (sender, jobs) = mpsc::channel();
        let shape = || Shape { id: 4, features: 1 << 32, queue_sizes: vec![64], config: vec![] };
        let slot = || Slot::new(DeviceKind::Rng.spec(), shape()).unwrap();
        (Slots::new(vec![slot(), slot()], sender).unwrap(), jobs)
    }

    fn read(slots: &Slots, address: u64) -> u32 {
        let mut data = [0; 4];
        slots.read(address, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn nothing_is_around_the_devices() {
        let (slots, _jobs) = slots();
        for address in [0, layout::SLOTS_START - 4, layout::slot_address(2), u64::MAX] {
            assert_eq!(read(&slots, address), u32::MAX, "{address:#x}");
            slots.write(address, &[0; 4]);
        }
        assert_eq!(read(&slots, layout::slot_address(1)), 0x7472_6976);
    }

    #[test]
    fn jobs_name_their_slot() {
        let (slots, jobs) = slots();
        let base = layout::slot_address(1);
        for (offset, value) in
            [(0x70, 1u32), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x70, 15), (0x70, 0)]
        {
            slots.write(base + offset, &value.to_le_bytes());
        }
        assert!(matches!(jobs.try_recv().unwrap(), Job::Activate(1, _)));
        assert!(matches!(jobs.try_recv().unwrap(), Job::Reset(1)));
        assert!(jobs.try_recv().is_err());
        assert_eq!(read(&slots, base + 0x70), 64);
        slots.get(1).unwrap().reset_done();
        assert_eq!(read(&slots, base + 0x70), 0);
    }
}
