//! virtio over MMIO (virtio 1.2, section 4.2) as a vhost-user frontend: the
//! guest's registers here, the device in another process.
//!
//! [`Registers`] is what the guest sees and changes, [`Slot`] ties it to KVM
//! and to the backend, [`frontend`] speaks vhost-user and runs on a thread of
//! its own, so that no vCPU waits for a backend.

pub mod frontend;
mod queue;
mod registers;
mod slot;
mod status;

pub use registers::{Activation, Effect, Registers, Shape};
pub use slot::{Error as SlotError, Job, Slot, Slots};
