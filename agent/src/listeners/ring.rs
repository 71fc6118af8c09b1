//! The reading end of a BPF ring buffer (the kernel's `bpf/ringbuf.rst`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::readiness;

/// The kernel's, on x86.
const PAGE: usize = 4096;

/// `BPF_RINGBUF_BUSY_BIT`: the record is still being written.
const BUSY: u32 = 1 << 31;

/// `BPF_RINGBUF_DISCARD_BIT`: the record was given up.
const DISCARDED: u32 = 1 << 30;

/// Bytes before each record.
const HEADER: usize = 8;

/// See the module. Its records have 16 bytes.
pub struct Ring {
    fd: AsyncFd<OwnedFd>,
    /// A page that begins with how far we have read.
    consumer: Mapping,
    /// A page that begins with how far the kernel has written, then the data
    /// twice, so that no record is in two pieces.
    producer: Mapping,
    size: usize,
}

/// What a program wrote into a ring buffer at once.
pub type Record = [u64; 2];

impl Ring {
    /// Reads from a ring buffer of `size` bytes.
    pub fn new(map: OwnedFd, size: usize) -> io::Result<Self> {
        let consumer = Mapping::new(&map, 0, PAGE, libc::PROT_READ | libc::PROT_WRITE)?;
        let producer = Mapping::new(&map, PAGE, PAGE + 2 * size, libc::PROT_READ)?;
        Ok(Self { fd: readiness::watch(map, Interest::READABLE)?, consumer, producer, size })
    }

    /// Waits until there is something to read.
    pub async fn readable(&self) -> io::Result<()> {
        // What comes after this is a new event: the kernel gives one when the
        // ring was empty, and whoever waits here has emptied it.
        self.fd.readable().await.map(|mut ready| ready.clear_ready())
    }

    /// Hands every record that is there to `f`.
    ///
    /// The kernel gives no event for a record that is not the first in the
    /// ring. So either it sees that all before it was read, or we see it: both
    /// write before they look, and nothing of that may change its order.
    pub fn drain(&mut self, f: &mut dyn FnMut(Record)) {
        let position = self.consumer.u64_at(0);
        let mut read = position.load(Ordering::SeqCst);
        while read < self.producer.u64_at(0).load(Ordering::SeqCst) {
            let at = PAGE + (read as usize & (self.size - 1));
            let header = self.producer.u32_at(at).load(Ordering::SeqCst);
            if header & BUSY != 0 {
                return;
            }
            let word = |n: usize| self.producer.u64_at(at + HEADER + 8 * n).load(Ordering::Relaxed);
            if header & DISCARDED == 0 {
                f([word(0), word(1)]);
            }
            let length = (header & !DISCARDED) as usize;
            read += (length + HEADER).next_multiple_of(8) as u64;
            position.store(read, Ordering::SeqCst);
        }
    }
}

/// Memory shared with the kernel.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is memory of the process and bound to no thread; everything in it
// is read and written atomically.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(map: &OwnedFd, offset: usize, length: usize, access: libc::c_int) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let (fd, flags) = (map.as_raw_fd(), libc::MAP_SHARED);
        // SAFETY: the kernel chooses where, so nothing that exists is replaced.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, length })
    }

    fn u64_at(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.length);
        // SAFETY: aligned and inside of the mapping, which lives as long as
        // `self`; the kernel writes there too, which atomics allow.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(at).cast()) }
    }

    fn u32_at(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.length);
        // SAFETY: as in `u64_at`.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(at).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped so, and no reference into it outlives `self`.
        let unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert_eq!(unmapped, 0);
    }
}
