//! A request in the form that virtiofsd takes: a `virtio_queue` descriptor
//! chain, which virtiofsd walks twice. The guest could rewrite its descriptors
//! between two walks, so virtiofsd gets a copy of the chain that was checked,
//! in memory that the guest cannot write.

use sandbox_vm_spec::devices::MAX_QUEUE_SIZE;
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use virtiofsd::descriptor_utils::{Reader, Writer};
use vm_memory::{Bytes, GuestAddress};

use super::{OPCODE, REPLY_HEADER, REQUEST_HEADER, WITHOUT_REPLY};
use crate::{Chain, Memory};

/// Largest request that may come without room for a reply: a BATCH_FORGET of
/// 253 inodes.
const MAX_UNANSWERED: usize = 4096;

/// Places in the private memory.
const TABLE: GuestAddress = GuestAddress(0);
const AVAILABLE: GuestAddress = GuestAddress(16 * MAX_QUEUE_SIZE as u64);
const USED: GuestAddress = GuestAddress(AVAILABLE.0 + 0x1000);
const DATA: GuestAddress = GuestAddress(USED.0 + 0x4000);
const LENGTH: usize = DATA.0 as usize + MAX_UNANSWERED;

/// The memory and queue of copies; a copy lasts until the next one.
pub struct Requests {
    memory: Memory,
    queue: Queue,
}

impl Requests {
    /// Allocates the private memory.
    pub fn new() -> std::io::Result<Self> {
        let other = std::io::Error::other::<virtio_queue::Error>;
        let memory = Memory::from_ranges(&[(TABLE, LENGTH)]).map_err(std::io::Error::other)?;
        let mut queue = Queue::new(MAX_QUEUE_SIZE).map_err(other)?;
        queue.try_set_desc_table_address(TABLE).map_err(other)?;
        queue.try_set_avail_ring_address(AVAILABLE).map_err(other)?;
        queue.try_set_used_ring_address(USED).map_err(other)?;
        queue.set_ready(true);
        // The available ring has one chain, whose head is descriptor 0.
        memory
            .write_obj(1u16.to_le(), GuestAddress(AVAILABLE.0 + 2))
            .map_err(std::io::Error::other)?;
        Ok(Self { memory, queue })
    }

    /// Opens a chain of the guest's `memory` for virtiofsd.
    pub fn open<'a>(
        &'a mut self,
        chain: &Chain,
        memory: &'a Memory,
    ) -> Result<(Reader<'a>, Writer<'a>), &'static str> {
        // virtiofsd panics on a reply buffer that does not take a header. The
        // guest could change the opcode after the check: it is copied, too.
        let answered = chain.writable_bytes() >= REPLY_HEADER;
        let length = if answered { 0 } else { self.copy_data(chain, memory)? };
        let Self { memory: private, queue } = self;
        let (memory, copy) = if answered {
            let readable = chain.readable().map(|(addr, len)| (addr, len, 0));
            let writable = chain.writable().map(|(addr, len)| (addr, len, VRING_DESC_F_WRITE));
            (memory, copy(queue, private, readable.chain(writable))?)
        } else {
            (&*private, copy(queue, private, [(DATA, length, 0)].into_iter())?)
        };
        let unreadable = |_| "buffers that virtiofsd cannot read";
        let reader = Reader::new(memory, copy.clone()).map_err(unreadable)?;
        let writer = Writer::new(memory, copy).map_err(unreadable)?;
        // virtiofsd stops silently at a chain of more than 4 GiB.
        let room = if answered { chain.writable_bytes() as usize } else { 0 };
        if writer.available_bytes() != room {
            return Err("a FUSE request of more than 4 GiB");
        }
        Ok((reader, writer))
    }

    /// Copies a request whose reply has no room, if it needs none.
    fn copy_data(&self, chain: &Chain, memory: &Memory) -> Result<u32, &'static str> {
        let mut reader = chain.reader(memory);
        let (length, mut bytes) = (reader.left(), [0; MAX_UNANSWERED]);
        let request = bytes.get_mut(..length as usize);
        let request = request.ok_or("a long FUSE request without room for a reply")?;
        reader.read_exact(request).map_err(|_| "a FUSE request that cannot be read")?;
        let opcode = request.get(OPCODE..OPCODE + 4).filter(|_| request.len() >= REQUEST_HEADER);
        let opcode = opcode.ok_or("a FUSE request shorter than its header")?;
        if !WITHOUT_REPLY.iter().any(|known| opcode == known.to_le_bytes()) {
            return Err("a FUSE request without room for the reply's header");
        }
        self.memory
            .write_slice(request, DATA)
            .map_err(|_| "a FUSE request that cannot be copied")?;
        Ok(length)
    }
}

/// Writes descriptors of `buffers` and returns the chain of them.
fn copy<'a>(
    queue: &mut Queue,
    private: &'a Memory,
    buffers: impl Iterator<Item = (GuestAddress, u32, u32)>,
) -> Result<DescriptorChain<&'a Memory>, &'static str> {
    let mut buffers = buffers.filter(|(_, len, _)| *len > 0).peekable();
    for index in 0..MAX_QUEUE_SIZE {
        let (addr, len, flags) = buffers.next().ok_or("a FUSE request without a byte")?;
        let more = buffers.peek().is_some();
        let flags = if more { flags | VRING_DESC_F_NEXT } else { flags };
        let descriptor = Descriptor::new(addr.0, len, flags as u16, index + 1);
        let at = GuestAddress(TABLE.0 + u64::from(index) * 16);
        private.write_obj(descriptor, at).map_err(|_| "a descriptor that cannot be copied")?;
        if !more {
            queue.set_next_avail(0);
            let mut chains = queue.iter(private).map_err(|_| "a chain that cannot be copied")?;
            return chains.next().ok_or("a chain that cannot be copied");
        }
    }
    Err("a FUSE request of more buffers than a queue has")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;

    use super::*;
    use crate::mock::{Driver, Part};

    #[test]
    fn what_the_guest_rewrites_after_the_check_changes_nothing() {
        let mut requests = Requests::new().unwrap();
        let mut driver = Driver::with_sizes(&[16]);
        let (addr, to) = (driver.bytes(&[7; 64]), driver.buffer(256));
        let readable = Part { addr, len: 64, write: false };
        driver.chain(0, &[readable, Part { addr: to, len: 256, write: true }]);
        let chain = driver.io()[0].pop().unwrap().unwrap();
        for index in 0..2 {
            driver.describe(0, index, Part { addr: to, len: 1, write: true }, 0, 0);
        }
        let (mut reader, writer) = requests.open(&chain, &driver.memory).unwrap();
        assert_eq!((reader.available_bytes(), writer.available_bytes()), (64, 256));
        let mut bytes = [0; 64];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 64]);
    }

    #[test]
    fn a_request_without_room_for_a_reply_is_read_once() {
        let mut requests = Requests::new().unwrap();
        let mut driver = Driver::with_sizes(&[16]);
        let mut forget = [0; 48];
        forget[OPCODE] = WITHOUT_REPLY[0] as u8;
        let addr = driver.bytes(&forget);
        driver.chain(0, &[Part { addr, len: 48, write: false }]);
        let chain = driver.io()[0].pop().unwrap().unwrap();
        let (mut reader, writer) = requests.open(&chain, &driver.memory).unwrap();
        // READ, whose reply would not fit.
        driver.write(addr + OPCODE as u64, &[15]);
        let mut bytes = [0; 48];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!((bytes, writer.available_bytes()), (forget, 0));
    }
}
