//! A file that goes into guest memory without being mapped there first.
//!
//! Reading into a mapping of fresh memory takes a page fault and clears each
//! page before it is overwritten. A file copied into the memory *file* takes
//! neither: some 30 ms less for a kernel in the counting lab.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use vm_memory::bitmap::BitmapSlice;
use vm_memory::volatile_memory::Error as VolatileMemoryError;
use vm_memory::{GuestMemory, GuestMemoryMmap, GuestMemoryRegion, ReadVolatile, VolatileSlice};

/// See the module.
pub struct Image<'a> {
    file: File,
    memory: &'a GuestMemoryMmap,
}

impl<'a> Image<'a> {
    /// `file`, to be read into `memory`.
    pub fn new(file: File, memory: &'a GuestMemoryMmap) -> Self {
        Self { file, memory }
    }

    /// The memory file, and where in it `address` of this process is.
    fn place(&self, address: usize) -> Option<(&'a File, u64)> {
        self.memory.iter().find_map(|region| {
            let within = address.checked_sub(region.as_ptr() as usize)? as u64;
            let offset = region.file_offset().filter(|_| within < region.len())?;
            Some((offset.file(), offset.start() + within))
        })
    }
}

impl Read for Image<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read(buf)
    }
}

impl Seek for Image<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl ReadVolatile for Image<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<B>,
    ) -> Result<usize, VolatileMemoryError> {
        let address = buf.ptr_guard_mut().as_ptr() as usize;
        let Some((mut to, offset)) = self.place(address) else {
            return self.file.read_volatile(buf);
        };
        let copied = to.seek(SeekFrom::Start(offset)).and_then(|_| {
            // Becomes sendfile(2).
            io::copy(&mut (&self.file).take(buf.len() as u64), &mut to)
        });
        copied.map(|bytes| bytes as usize).map_err(VolatileMemoryError::IOError)
    }
}
