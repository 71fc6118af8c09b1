use std::num::Wrapping;
use std::sync::atomic::{Ordering, fence};

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use crate::chain::{Chain, ChainError};
use crate::{DeviceError, Memory};

/// Bytes of a used ring before its elements, of an element, and where its
/// index is.
const USED_HEADER: u64 = 4;
const USED_ELEMENT: u64 = 8;
const USED_INDEX: u64 = 2;
/// Bytes of an available ring without its elements of 2 bytes: behind them is
/// used_event.
const AVAILABLE_HEADER: u64 = 4;

/// A ring that breaks the rules of virtio 1.2 section 2.7.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error("bad descriptor chain")]
    Chain(#[from] ChainError),
    /// An available or used ring outside guest memory, or an available index
    /// further ahead than the ring is long.
    #[error("bad ring")]
    Ring(#[from] virtio_queue::Error),
}

/// One queue of a device, for the length of one call.
///
/// The loop of a device is: [`pop`](Self::pop) until it gives nothing,
/// [`push`](Self::push) each chain back, start over while
/// [`rearm`](Self::rearm) says that more came, and at the end ask
/// [`wants_signal`](Self::wants_signal).
pub struct QueueIo<'a> {
    index: usize,
    queue: &'a mut Queue,
    memory: &'a Memory,
    /// Chains pushed since the driver's wish was last asked for.
    pushed: u16,
}

impl<'a> QueueIo<'a> {
    /// Queue number `index` and the guest's memory as it is now.
    pub fn new(index: usize, queue: &'a mut Queue, memory: &'a Memory) -> Self {
        Self { index, queue, memory, pushed: 0 }
    }

    /// The guest's memory.
    pub fn memory(&self) -> &'a Memory {
        self.memory
    }

    /// The driver has set the queue up and has not stopped it.
    pub fn ready(&self) -> bool {
        self.queue.ready()
    }

    /// Takes the next chain that the driver made available.
    pub fn pop(&mut self) -> Result<Option<Chain>, DeviceError> {
        let Some(head) = self.next_head().map_err(|e| self.error(e))? else { return Ok(None) };
        match Chain::walk(self.queue, self.memory, head) {
            Ok(chain) => Ok(Some(chain)),
            Err(error) => Err(self.error(error.into())),
        }
    }

    /// Takes and returns chains until the driver has made no more available, each
    /// with as many bytes written into it as `answer` says.
    pub fn answer_all(
        &mut self,
        mut answer: impl FnMut(&Chain, &Memory) -> Result<u32, DeviceError>,
    ) -> Result<(), DeviceError> {
        loop {
            while let Some(chain) = self.pop()? {
                let len = answer(&chain, self.memory)?;
                self.push(&chain, len)?;
            }
            if !self.rearm()? {
                return Ok(());
            }
        }
    }

    fn next_head(&mut self) -> Result<Option<u16>, RingError> {
        if !self.ready() {
            return Ok(None);
        }
        Ok(self.queue.iter(self.memory)?.next().map(|chain| chain.head_index()))
    }

    /// Puts the chain popped last back, to be popped again.
    pub fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Returns a chain to the driver, with `len` bytes written into it.
    pub fn push(&mut self, chain: &Chain, len: u32) -> Result<(), DeviceError> {
        self.push_together([(chain.head(), len)])
    }

    /// Returns chains to the driver, each by its head and with the bytes
    /// written into it, so that the driver sees all of them or none.
    pub fn push_together(
        &mut self,
        chains: impl IntoIterator<Item = (u16, u32)>,
    ) -> Result<(), DeviceError> {
        let mut next = Wrapping(self.queue.next_used());
        for (head, len) in chains {
            let slot = u64::from(next.0 % self.queue.size().max(1));
            let at = self.used(USED_HEADER + slot * USED_ELEMENT)?;
            // Two words, the first of which is the head.
            let element = u64::from(head) | u64::from(len) << 32;
            self.memory.write_obj(element.to_le(), at).map_err(|e| self.memory_error(e))?;
            next += 1;
            self.pushed = self.pushed.saturating_add(1);
        }
        self.queue.set_next_used(next.0);
        let at = self.used(USED_INDEX)?;
        self.memory.store(next.0.to_le(), at, Ordering::Release).map_err(|e| self.memory_error(e))
    }

    /// Address of a byte of the used ring.
    fn used(&self, offset: u64) -> Result<GuestAddress, DeviceError> {
        let address = self.queue.used_ring().checked_add(offset);
        address
            .map(GuestAddress)
            .ok_or_else(|| self.error(virtio_queue::Error::AddressOverflow.into()))
    }

    /// Asks the driver to kick for the next chain it makes available. Returns
    /// whether one came before the driver could know of it, so that there may
    /// be no kick for it.
    pub fn rearm(&mut self) -> Result<bool, DeviceError> {
        if !self.ready() {
            return Ok(false);
        }
        self.queue.enable_notification(self.memory).map_err(|e| self.error(e.into()))
    }

    /// Whether the driver is to be interrupted for what was pushed, by its
    /// used_event if event indexes were negotiated (section 2.7.10).
    pub fn wants_signal(&mut self) -> Result<bool, DeviceError> {
        let pushed = std::mem::take(&mut self.pushed);
        if pushed == 0 || !self.queue.event_idx_enabled() {
            return Ok(pushed != 0);
        }
        // What was pushed is there before the driver's wish is read: else a
        // driver that has just gone to sleep would not be woken.
        fence(Ordering::SeqCst);
        let offset = AVAILABLE_HEADER + 2 * u64::from(self.queue.size());
        let at = self.queue.avail_ring().checked_add(offset).map(GuestAddress);
        let at = at.ok_or_else(|| self.error(virtio_queue::Error::AddressOverflow.into()))?;
        let event: u16 =
            self.memory.load(at, Ordering::Relaxed).map_err(|e| self.memory_error(e))?;
        let behind = Wrapping(self.queue.next_used()) - Wrapping(u16::from_le(event));
        Ok((behind - Wrapping(1)).0 < pushed)
    }

    /// A request of this queue that cannot be answered as a device's error.
    pub fn bad_request(&self, reason: &'static str) -> DeviceError {
        DeviceError::Request { queue: self.index, reason }
    }

    fn memory_error(&self, source: vm_memory::GuestMemoryError) -> DeviceError {
        self.error(virtio_queue::Error::GuestMemory(source).into())
    }

    fn error(&self, source: RingError) -> DeviceError {
        DeviceError::Ring { queue: self.index, source }
    }
}
