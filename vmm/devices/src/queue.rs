use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueOwnedT, QueueT};

use crate::chain::{Chain, ChainError};
use crate::{DeviceError, Memory};

/// A ring that breaks the rules of virtio 1.2 section 2.7.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A bad descriptor chain.
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
    pushed: bool,
}

impl<'a> QueueIo<'a> {
    /// Queue number `index` and the guest's memory as it is now.
    pub fn new(index: usize, queue: &'a mut Queue, memory: &'a Memory) -> Self {
        Self { index, queue, memory, pushed: false }
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

    /// Like [`pop`](Self::pop), and gives the chain as the `virtio_queue`
    /// crate walks it too, for libraries that take it in that form.
    pub fn pop_for_library(
        &mut self,
    ) -> Result<Option<(Chain, virtio_queue::DescriptorChain<&'a Memory>)>, DeviceError> {
        if !self.ready() {
            return Ok(None);
        }
        let next = match self.queue.iter(self.memory) {
            Ok(mut iter) => iter.next(),
            Err(error) => return Err(self.error(error.into())),
        };
        let Some(theirs) = next else { return Ok(None) };
        match Chain::walk(self.queue, self.memory, theirs.head_index()) {
            Ok(ours) => Ok(Some((ours, theirs))),
            Err(error) => Err(self.error(error.into())),
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
        self.pushed = true;
        self.queue.add_used(self.memory, chain.head(), len).map_err(|e| self.error(e.into()))
    }

    /// The driver has made chains available that were not popped.
    pub fn has_more(&mut self) -> Result<bool, DeviceError> {
        if !self.ready() {
            return Ok(false);
        }
        let available = self
            .queue
            .avail_idx(self.memory, Ordering::Acquire)
            .map_err(|e| self.error(e.into()))?;
        Ok(available.0 != self.queue.next_avail())
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
        if !std::mem::take(&mut self.pushed) {
            return Ok(false);
        }
        self.queue.needs_notification(self.memory).map_err(|e| self.error(e.into()))
    }

    /// A request of this queue that cannot be answered as a device's error.
    pub fn bad_request(&self, reason: &'static str) -> DeviceError {
        DeviceError::Request { queue: self.index, reason }
    }

    fn error(&self, source: RingError) -> DeviceError {
        DeviceError::Ring { queue: self.index, source }
    }
}
