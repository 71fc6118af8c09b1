//! One queue as the guest has set it up.

use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

/// Registers of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub max: u16,
    /// Size, a power of two up to `max`.
    pub size: u16,
    /// Whether the guest has set it up.
    pub ready: bool,
    /// Address of the descriptor table.
    pub descriptors: u64,
    /// Address of the available ring.
    pub available: u64,
    /// Address of the used ring.
    pub used: u64,
}

impl Queue {
    /// A queue that is not set up.
    pub fn new(max: u16) -> Self {
        Self { max, size: max, ready: false, descriptors: 0, available: 0, used: 0 }
    }

    /// Takes a size from the guest, if it is one.
    pub fn resize(&mut self, size: u32) {
        if let Ok(size) = u16::try_from(size)
            && size.is_power_of_two()
            && size <= self.max
        {
            self.size = size;
        }
    }

    /// Whether all three parts are aligned (section 2.7) and in memory.
    pub fn fits(&self, memory: &GuestMemoryMmap) -> bool {
        let size = usize::from(self.size);
        part(memory, self.descriptors, 16 * size, 16)
            && part(memory, self.available, 6 + 2 * size, 2)
            && part(memory, self.used, 6 + 8 * size, 4)
    }
}

/// Whether `len` bytes at `address` are one piece of memory.
fn part(memory: &GuestMemoryMmap, address: u64, len: usize, align: u64) -> bool {
    address.is_multiple_of(align) && memory.get_slice(GuestAddress(address), len).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::super::{layout, memory};
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_up_to_the_maximum() {
        let mut queue = Queue::new(256);
        for size in [0, 3, 257, 512, 0x1_0100, u32::MAX] {
            queue.resize(size);
            assert_eq!(queue.size, 256, "{size}");
        }
        for size in [1, 128, 256] {
            queue.resize(size);
            assert_eq!(u32::from(queue.size), size);
        }
    }

    #[test]
    fn rings_outside_memory_or_across_the_hole_are_refused() {
        let memory = memory::make(3 * 1024 + 64).unwrap();
        let good = Queue {
            descriptors: 0x1000,
            available: 0x2000,
            used: layout::HOLE_END,
            ready: true,
            ..Queue::new(256)
        };
        assert!(good.fits(&memory));
        for bad in [layout::HOLE_START - 16, layout::HOLE_START, layout::SLOTS_START, !15] {
            assert!(!Queue { descriptors: bad, ..good }.fits(&memory), "{bad:#x}");
            assert!(!Queue { available: bad, ..good }.fits(&memory), "{bad:#x}");
            assert!(!Queue { used: bad, ..good }.fits(&memory), "{bad:#x}");
        }
        assert!(!Queue { descriptors: 0x1008, ..good }.fits(&memory));
        assert!(!Queue { available: 0x2001, ..good }.fits(&memory));
        assert!(!Queue { used: 0x3002, ..good }.fits(&memory));
    }
}
