use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;

use vmm_sys_util::fallocate::{FallocateMode, fallocate};

/// `BLKDISCARD` of linux/fs.h: `_IO(0x12, 119)`.
const BLKDISCARD: libc::Ioctl = 0x1277;

/// A file or block device of the host that the guest has as a disk.
#[derive(Debug)]
pub struct Disk {
    file: File,
    bytes: u64,
    read_only: bool,
    is_device: bool,
    /// Something was written since it was flushed last.
    dirty: bool,
}

impl Disk {
    /// The first `bytes` of `file`, which is open for reading and, unless it
    /// is `read_only`, for writing.
    pub fn new(file: File, bytes: u64, read_only: bool) -> io::Result<Self> {
        let is_device = file.metadata()?.file_type().is_block_device();
        Ok(Self { file, bytes, read_only, is_device, dirty: false })
    }

    /// Whether it has `len` bytes at `offset`.
    pub fn has(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.bytes)
    }

    /// The file, to be read at `offset`.
    pub fn read_at(&mut self, offset: u64) -> io::Result<&mut File> {
        self.file.seek(SeekFrom::Start(offset))?;
        Ok(&mut self.file)
    }

    /// The file, to be written at `offset`.
    pub fn write_at(&mut self, offset: u64) -> io::Result<&mut File> {
        self.change()?;
        self.read_at(offset)
    }

    /// Writes the host's cache to the disk (fdatasync).
    pub fn flush(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Gives the space back; what is read there from then on is not defined.
    pub fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.change()?;
        if self.is_device {
            return self.discard_of_device(offset, len);
        }
        self.fallocate(FallocateMode::PunchHole, offset, len)
    }

    /// Fills with zeros.
    pub fn zero(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.change()?;
        if unmap && !self.is_device {
            return self.fallocate(FallocateMode::PunchHole, offset, len);
        }
        self.fallocate(FallocateMode::ZeroRange, offset, len)
    }

    fn change(&mut self) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.dirty = true;
        Ok(())
    }

    fn fallocate(&self, mode: FallocateMode, offset: u64, len: u64) -> io::Result<()> {
        fallocate(&self.file, mode, true, offset, len)
            .map_err(|errno| io::Error::from_raw_os_error(errno.errno()))
    }

    fn discard_of_device(&self, offset: u64, len: u64) -> io::Result<()> {
        let range = [offset, len];
        // SAFETY: the argument is two words that live through the call.
        let done = unsafe { libc::ioctl(self.file.as_raw_fd(), BLKDISCARD, range.as_ptr()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
