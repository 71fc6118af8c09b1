//! Descriptor chains (virtio 1.2 section 2.7.5): walked once, checked whole.

use std::io;

use smallvec::SmallVec;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, ReadVolatile, WriteVolatile};

use crate::Memory;

/// Buffers of a chain without an allocation: those of Linux's largest frame,
/// a header and 17 fragments, with room. Longer ones are of disks and files.
const INLINE: usize = 20;
/// Size of a descriptor in its table.
const DESCRIPTOR: u32 = size_of::<Descriptor>() as u32;

/// A chain that breaks the rules of section 2.7.5.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A head or `next` beyond the table.
    #[error("descriptor index {index} in a table of {len}")]
    Index { index: u16, len: u16 },
    /// More descriptors than the queue has: a loop, if nothing else.
    #[error("the chain loops or has more than the queue's {0} descriptors")]
    TooLong(u16),
    /// A table that does not lie in guest memory.
    #[error("descriptor table at {0:#x} is outside guest memory")]
    Table(u64),
    /// A buffer that does not lie in guest memory.
    #[error("buffer of {len} bytes at {addr:#x} is outside guest memory")]
    Buffer { addr: u64, len: u32 },
    /// More than 2^32 - 1 bytes in the readable or the writable part.
    #[error("the chain holds more than 4 GiB")]
    Bytes,
    /// An indirect table whose length is not that of 1 to queue-size descriptors.
    #[error("indirect table of {0} bytes")]
    IndirectLength(u32),
    /// An indirect table within an indirect table.
    #[error("indirect table within an indirect table")]
    IndirectNested,
    #[error("indirect descriptor with a next one")]
    IndirectNext,
    /// A device-readable descriptor after a device-writable one.
    #[error("readable descriptor after a writable one")]
    Order,
}

/// A part of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Buffer {
    addr: GuestAddress,
    len: u32,
}

/// A chain of buffers that the driver made available. Every buffer was in
/// guest memory when the chain was walked; descriptors are not read again, so
/// a driver that changes them meanwhile changes nothing.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    buffers: SmallVec<[Buffer; INLINE]>,
    /// The first writable one of `buffers`.
    writable: usize,
    readable_bytes: u32,
    writable_bytes: u32,
}

/// Where descriptors are read from.
#[derive(Clone, Copy)]
struct Table {
    addr: GuestAddress,
    len: u16,
    indirect: bool,
}

impl Table {
    fn read(&self, memory: &Memory, index: u16) -> Result<Descriptor, ChainError> {
        if index >= self.len {
            return Err(ChainError::Index { index, len: self.len });
        }
        let offset = u64::from(index) * u64::from(DESCRIPTOR);
        let addr = self.addr.0.checked_add(offset).ok_or(ChainError::Table(self.addr.0))?;
        memory.read_obj(GuestAddress(addr)).map_err(|_| ChainError::Table(self.addr.0))
    }

    fn indirect(&self, descriptor: &Descriptor, limit: u16) -> Result<Table, ChainError> {
        if self.indirect {
            return Err(ChainError::IndirectNested);
        }
        if descriptor.has_next() {
            return Err(ChainError::IndirectNext);
        }
        let bytes = descriptor.len();
        let bad_length = ChainError::IndirectLength(bytes);
        if bytes == 0 || !bytes.is_multiple_of(DESCRIPTOR) {
            return Err(bad_length);
        }
        let len = u16::try_from(bytes / DESCRIPTOR).map_err(|_| bad_length)?;
        if len > limit {
            return Err(bad_length);
        }
        Ok(Table { addr: descriptor.addr(), len, indirect: true })
    }
}

impl Chain {
    /// Walks the chain that starts at `head` of `queue`'s descriptor table.
    pub fn walk(queue: &Queue, memory: &Memory, head: u16) -> Result<Chain, ChainError> {
        let limit = queue.size();
        let (buffers, writable) = (SmallVec::new(), 0);
        let mut chain = Chain { head, buffers, writable, readable_bytes: 0, writable_bytes: 0 };
        let mut table =
            Table { addr: GuestAddress(queue.desc_table()), len: limit, indirect: false };
        let mut index = head;
        // Each turn takes a buffer or enters the one indirect table: a loop
        // ends here.
        for _ in 0..=limit {
            let descriptor = table.read(memory, index)?;
            if descriptor.refers_to_indirect_table() {
                table = table.indirect(&descriptor, limit)?;
                index = 0;
                continue;
            }
            if chain.buffers.len() == usize::from(limit) {
                break;
            }
            chain.push(memory, &descriptor)?;
            if !descriptor.has_next() {
                return Ok(chain);
            }
            index = descriptor.next();
        }
        Err(ChainError::TooLong(limit))
    }

    fn push(&mut self, memory: &Memory, descriptor: &Descriptor) -> Result<(), ChainError> {
        let (addr, len) = (descriptor.addr(), descriptor.len());
        if len > 0 && !memory.check_range(addr, len as usize) {
            return Err(ChainError::Buffer { addr: addr.0, len });
        }
        let total = if descriptor.is_write_only() {
            &mut self.writable_bytes
        } else if self.writable < self.buffers.len() {
            return Err(ChainError::Order);
        } else {
            self.writable += 1;
            &mut self.readable_bytes
        };
        *total = total.checked_add(len).ok_or(ChainError::Bytes)?;
        self.buffers.push(Buffer { addr, len });
        Ok(())
    }

    /// Index of the first descriptor, by which the chain is returned.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes of the part that the driver reads.
    pub fn writable_bytes(&self) -> u32 {
        self.writable_bytes
    }

    /// Address and length of each buffer that the driver wrote.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (GuestAddress, u32)> {
        self.buffers[..self.writable].iter().map(|buffer| (buffer.addr, buffer.len))
    }

    /// Address and length of each buffer that the driver reads.
    pub(crate) fn writable(&self) -> impl Iterator<Item = (GuestAddress, u32)> {
        self.buffers[self.writable..].iter().map(|buffer| (buffer.addr, buffer.len))
    }

    /// The part that the driver wrote.
    pub fn reader<'a>(&'a self, memory: &'a Memory) -> Reader<'a> {
        let cursor = Cursor { memory, buffers: &self.buffers[..self.writable], offset: 0 };
        Reader { cursor, left: self.readable_bytes }
    }

    /// The part that the driver reads.
    pub fn writer<'a>(&'a self, memory: &'a Memory) -> Writer<'a> {
        let cursor = Cursor { memory, buffers: &self.buffers[self.writable..], offset: 0 };
        Writer { cursor, left: self.writable_bytes, written: 0 }
    }
}

struct Cursor<'a> {
    memory: &'a Memory,
    buffers: &'a [Buffer],
    /// Bytes of the first buffer that are done.
    offset: u32,
}

impl Cursor<'_> {
    /// Calls `act` with an address and a length for each piece of the next
    /// `count` bytes, until it does less than it was given.
    fn advance(
        &mut self,
        count: u32,
        mut act: impl FnMut(&Memory, GuestAddress, u32) -> io::Result<u32>,
    ) -> io::Result<u32> {
        let mut done = 0;
        while let Some(buffer) = self.buffers.first() {
            let piece = (buffer.len - self.offset).min(count - done);
            if piece > 0 {
                let addr = GuestAddress(buffer.addr.0 + u64::from(self.offset));
                let moved = match act(self.memory, addr, piece) {
                    Ok(moved) => moved.min(piece),
                    // What is moved is moved: the error comes again.
                    Err(_) if done > 0 => return Ok(done),
                    Err(error) => return Err(error),
                };
                self.offset += moved;
                done += moved;
                if moved < piece {
                    return Ok(done);
                }
            }
            if self.offset < buffer.len {
                return Ok(done);
            }
            self.buffers = &self.buffers[1..];
            self.offset = 0;
        }
        Ok(done)
    }
}

/// Reads what the driver wrote, from front to back.
pub struct Reader<'a> {
    cursor: Cursor<'a>,
    left: u32,
}

impl Reader<'_> {
    /// Bytes not yet read.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Fills `bytes`, or reads nothing if fewer are left.
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let count = fits(bytes.len(), self.left)?;
        let mut at = 0;
        let read = self.cursor.advance(count, |memory, addr, len| {
            let piece = &mut bytes[at..at + len as usize];
            memory.read_slice(piece, addr).map_err(io::Error::other)?;
            at += len as usize;
            Ok(len)
        })?;
        self.left -= read;
        if read == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Writes up to `count` bytes to `to`; returns how many it took.
    pub fn write_to<W: WriteVolatile>(&mut self, to: &mut W, count: u32) -> io::Result<u32> {
        let written = self.cursor.advance(count.min(self.left), |memory, addr, len| {
            let slice = memory.get_slice(addr, len as usize).map_err(io::Error::other)?;
            let written = to.write_volatile(&slice).map_err(volatile_error)?;
            Ok(u32::try_from(written).unwrap_or(len))
        })?;
        self.left -= written;
        Ok(written)
    }
}

/// Fills what the driver reads, from front to back.
pub struct Writer<'a> {
    cursor: Cursor<'a>,
    left: u32,
    written: u32,
}

impl Writer<'_> {
    /// Bytes that still fit.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Bytes written: the length with which the chain is returned.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// Writes all of `bytes`, or nothing if fewer fit.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = fits(bytes.len(), self.left)?;
        let mut at = 0;
        let written = self.cursor.advance(count, |memory, addr, len| {
            let piece = &bytes[at..at + len as usize];
            memory.write_slice(piece, addr).map_err(io::Error::other)?;
            at += len as usize;
            Ok(len)
        })?;
        self.took(written);
        if written == count { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Reads up to `count` bytes from `from`; returns how many it gave.
    pub fn read_from<R: ReadVolatile>(&mut self, from: &mut R, count: u32) -> io::Result<u32> {
        let read = self.cursor.advance(count.min(self.left), |memory, addr, len| {
            let mut slice = memory.get_slice(addr, len as usize).map_err(io::Error::other)?;
            let read = from.read_volatile(&mut slice).map_err(volatile_error)?;
            Ok(u32::try_from(read).unwrap_or(len))
        })?;
        self.took(read);
        Ok(read)
    }

    /// Leaves `count` bytes to be written later by [`Chain::writer`].
    pub fn skip(&mut self, count: u32) -> io::Result<()> {
        let count = fits(count as usize, self.left)?;
        let skipped = self.cursor.advance(count, |_, _, len| Ok(len))?;
        self.took(skipped);
        Ok(())
    }

    fn took(&mut self, count: u32) {
        self.left -= count;
        self.written += count;
    }
}

fn fits(len: usize, left: u32) -> io::Result<u32> {
    match u32::try_from(len) {
        Ok(len) if len <= left => Ok(len),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn volatile_error(error: vm_memory::VolatileMemoryError) -> io::Error {
    match error {
        vm_memory::VolatileMemoryError::IOError(error) => error,
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests;
