//! Copies files into the guest's memory inside the host's kernel: no page is
//! zeroed first, and none is mapped here to be written to.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{
    GuestMemory, GuestMemoryMmap, GuestMemoryRegion, ReadVolatile, VolatileMemoryError,
    VolatileSlice,
};

/// A file to be read into guest memory.
pub struct Source<'a> {
    file: File,
    memory: &'a GuestMemoryMmap,
}

impl<'a> Source<'a> {
    /// Reads `file` into `memory`.
    pub fn new(file: File, memory: &'a GuestMemoryMmap) -> Self {
        Self { file, memory }
    }

    /// Size of the file.
    pub fn size(&mut self) -> io::Result<u64> {
        let size = self.file.seek(SeekFrom::End(0))?;
        self.file.rewind()?;
        Ok(size)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl ReadVolatile for Source<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        slice: &mut VolatileSlice<B>,
    ) -> Result<usize, VolatileMemoryError> {
        let target = place(self.memory, slice.ptr_guard().as_ptr());
        let Some((memory_file, offset)) = target else { return self.file.read_volatile(slice) };
        match send(&self.file, memory_file, offset, slice.len()) {
            // A file system whose files cannot be sent from.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.file.read_volatile(slice)
            }
            result => result.map_err(VolatileMemoryError::IOError),
        }
    }
}

/// The place in the memory's file that is mapped at `pointer`.
fn place(memory: &GuestMemoryMmap, pointer: *const u8) -> Option<(&File, u64)> {
    memory.iter().find_map(|region| {
        let offset = (pointer as u64).checked_sub(region.as_ptr() as u64)?;
        let file = region.file_offset().filter(|_| offset < region.len())?;
        Some((file.file(), file.start() + offset))
    })
}

fn send(from: &File, mut to: &File, offset: u64, len: usize) -> io::Result<usize> {
    to.seek(SeekFrom::Start(offset))?;
    Ok(rustix::fs::sendfile(to, from, None, len)?)
}
