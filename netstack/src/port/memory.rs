//! A port in memory: tests, fuzz targets and benchmarks play the guest.

use std::collections::VecDeque;

use super::{Offload, Port, Received};

/// Two queues of frames. Nothing is dropped; `capacity` makes it full.
#[derive(Debug)]
pub struct MemoryPort {
    /// What the guest sent and the stack has not taken yet.
    pub from_guest: VecDeque<(Vec<u8>, Offload)>,
    /// What the stack sent and the guest has not taken yet.
    pub to_guest: VecDeque<(Vec<u8>, Offload)>,
    /// Frames that `to_guest` holds before the port is full.
    pub capacity: usize,
    /// Turns that ended with something new for the guest.
    pub signals: usize,
    sent: bool,
}

impl Default for MemoryPort {
    fn default() -> Self {
        Self {
            from_guest: VecDeque::new(),
            to_guest: VecDeque::new(),
            capacity: usize::MAX,
            signals: 0,
            sent: false,
        }
    }
}

impl Port for MemoryPort {
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        loop {
            let (frame, offload) = self.from_guest.pop_front()?;
            if let Some(room) = buffer.get_mut(..frame.len()) {
                room.copy_from_slice(&frame);
                return Some(Received { length: frame.len(), offload });
            }
        }
    }

    fn room(&mut self, _length: usize) -> bool {
        self.to_guest.len() < self.capacity
    }

    fn transmit(&mut self, frame: &[u8], offload: Offload) -> bool {
        if self.to_guest.len() >= self.capacity {
            return false;
        }
        self.to_guest.push_back((frame.to_vec(), offload));
        self.sent = true;
        true
    }

    fn end_batch(&mut self) {
        self.signals += usize::from(std::mem::take(&mut self.sent));
    }
}
