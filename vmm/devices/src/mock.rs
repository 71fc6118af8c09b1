//! A driver for tests and fuzz targets: guest memory with rings that can be
//! set up right or wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sandbox_vm_spec::devices::MAX_QUEUE_SIZE;
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use crate::{Device, Memory, QueueIo};

/// Bytes of guest memory, from address 0.
pub const MEMORY: usize = 4 << 20;
/// Where each queue's rings begin, and how far they are apart.
const RINGS: u64 = 0x10_0000;
const RING_STRIDE: u64 = 0x1_0000;
const AVAIL: u64 = 0x8000;
const USED: u64 = 0xa000;
/// Where [`Driver::buffer`] begins to give memory out.
const BUFFERS: u64 = 0x20_0000;

/// A buffer of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Guest physical address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
    /// The device writes it.
    pub write: bool,
}

/// The driver of a device.
pub struct Driver {
    /// The guest's memory.
    pub memory: Memory,
    /// The device's side of each queue.
    pub queues: Vec<Queue>,
    available: Vec<u16>,
    used: Vec<u16>,
    next_descriptor: Vec<u16>,
    next_buffer: u64,
}

impl Driver {
    /// Sets up queues of the largest sizes that `device` has.
    pub fn new(device: &dyn Device) -> Self {
        Self::with_sizes(&vec![MAX_QUEUE_SIZE; device.kind().spec().queue_sizes.len()])
    }

    /// Sets up queues of `sizes`.
    pub fn with_sizes(sizes: &[u16]) -> Self {
        Self::over(Memory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap(), sizes)
    }

    /// Sets up queues of `sizes` in `memory`, which begins at address 0 and
    /// is at least [`MEMORY`] long.
    pub fn over(memory: Memory, sizes: &[u16]) -> Self {
        let queues: Vec<Queue> = sizes.iter().enumerate().map(|(i, s)| queue(i, *s)).collect();
        let zeros = vec![0; queues.len()];
        Self {
            memory,
            queues,
            available: zeros.clone(),
            used: zeros.clone(),
            next_descriptor: zeros,
            next_buffer: BUFFERS,
        }
    }

    /// What a call of the device gets.
    pub fn io(&mut self) -> Vec<QueueIo<'_>> {
        let memory = &self.memory;
        self.queues.iter_mut().enumerate().map(|(i, q)| QueueIo::new(i, q, memory)).collect()
    }

    /// Fresh guest memory.
    pub fn buffer(&mut self, len: u32) -> u64 {
        let addr = self.next_buffer;
        self.next_buffer += u64::from(len);
        assert!(self.next_buffer as usize <= MEMORY, "the mock driver is out of memory");
        addr
    }

    /// Fresh guest memory that holds `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let addr = self.buffer(bytes.len() as u32);
        self.memory.write_slice(bytes, GuestAddress(addr)).unwrap();
        addr
    }

    /// Writes a descriptor.
    pub fn describe(&mut self, queue: usize, index: u16, part: Part, flags: u32, next: u16) {
        let table = self.queues[queue].desc_table();
        self.describe_at(table, index, part, flags, next);
    }

    /// Writes a descriptor into the table at `table`.
    pub fn describe_at(&mut self, table: u64, index: u16, part: Part, flags: u32, next: u16) {
        let write = if part.write { VRING_DESC_F_WRITE } else { 0 };
        let descriptor = Descriptor::new(part.addr, part.len, (flags | write) as u16, next);
        let addr = GuestAddress(table + u64::from(index) * 16);
        self.memory.write_obj(descriptor, addr).unwrap();
    }

    /// Makes the chain at `head` available.
    pub fn offer(&mut self, queue: usize, head: u16) {
        let (ring, size) = (self.queues[queue].avail_ring(), self.queues[queue].size());
        let slot = u64::from(self.available[queue] % size);
        self.memory.write_obj(head.to_le(), GuestAddress(ring + 4 + slot * 2)).unwrap();
        self.advance(queue, 1);
    }

    /// Moves the available index on by `by`, with nothing behind it.
    pub fn advance(&mut self, queue: usize, by: u16) {
        let ring = self.queues[queue].avail_ring();
        self.available[queue] = self.available[queue].wrapping_add(by);
        self.memory.write_obj(self.available[queue].to_le(), GuestAddress(ring + 2)).unwrap();
    }

    /// Makes a chain of `parts` available, in the next descriptors of the
    /// table; returns its head.
    pub fn chain(&mut self, queue: usize, parts: &[Part]) -> u16 {
        let size = self.queues[queue].size();
        let head = self.next_descriptor[queue];
        for (i, part) in parts.iter().enumerate() {
            let index = (head + i as u16) % size;
            let last = i + 1 == parts.len();
            let flags = if last { 0 } else { VRING_DESC_F_NEXT };
            self.describe(queue, index, *part, flags, (index + 1) % size);
        }
        self.next_descriptor[queue] = (head + parts.len() as u16) % size;
        self.offer(queue, head);
        head
    }

    /// Chains that the device returned since the last call: head and length.
    pub fn returned(&mut self, queue: usize) -> Vec<(u16, u32)> {
        let (ring, size) = (self.queues[queue].used_ring(), self.queues[queue].size());
        let index: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap();
        let mut returned = Vec::new();
        while self.used[queue] != u16::from_le(index) {
            let slot = u64::from(self.used[queue] % size);
            let entry: [u32; 2] = self.memory.read_obj(GuestAddress(ring + 4 + slot * 8)).unwrap();
            returned.push((u32::from_le(entry[0]) as u16, u32::from_le(entry[1])));
            self.used[queue] = self.used[queue].wrapping_add(1);
        }
        returned
    }

    /// Writes bytes into guest memory.
    pub fn write(&self, addr: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(addr)).unwrap();
    }

    /// Address of a queue's descriptor table.
    pub fn descriptors(&self, queue: usize) -> u64 {
        self.queues[queue].desc_table()
    }

    /// Address of a queue's available ring.
    pub fn available_ring(&self, queue: usize) -> u64 {
        self.queues[queue].avail_ring()
    }

    /// Address of a queue's used ring.
    pub fn used_ring(&self, queue: usize) -> u64 {
        self.queues[queue].used_ring()
    }

    /// Bytes of guest memory.
    pub fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(addr)).unwrap();
        bytes
    }
}

fn queue(index: usize, size: u16) -> Queue {
    let base = RINGS + RING_STRIDE * index as u64;
    let mut queue = Queue::new(size).unwrap();
    queue.try_set_desc_table_address(GuestAddress(base)).unwrap();
    queue.try_set_avail_ring_address(GuestAddress(base + AVAIL)).unwrap();
    queue.try_set_used_ring_address(GuestAddress(base + USED)).unwrap();
    queue.set_ready(true);
    queue
}
