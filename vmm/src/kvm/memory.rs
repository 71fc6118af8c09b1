//! The guest's memory: one sealed memfd, mapped around the MMIO hole, that the
//! devices' backends map too.

use std::fs::File;
use std::io;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

use super::layout;

/// The guest's memory was not allocated, mapped or registered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The memory file could not be made.
    #[error("cannot allocate {mib} MiB of guest memory")]
    Make { mib: u64, source: io::Error },
    /// The memory file could not be mapped.
    #[error("cannot map {mib} MiB of guest memory; try a smaller size")]
    Map { mib: u64, source: vm_memory::mmap::FromRangesError },
    #[error("KVM_SET_USER_MEMORY_REGION failed for guest memory at {address:#x}")]
    Register { address: u64, source: kvm_ioctls::Error },
}

/// Makes `mib` MiB of guest memory. Nothing of it is touched.
pub fn make(mib: u64) -> Result<GuestMemoryMmap, Error> {
    let file = Arc::new(memory_file(mib << 20).map_err(|source| Error::Make { mib, source })?);
    let ranges = layout::ranges(mib << 20).into_iter().map(|range| {
        let part = FileOffset::from_arc(file.clone(), range.offset);
        (GuestAddress(range.start), range.len as usize, Some(part))
    });
    GuestMemoryMmap::from_ranges_with_files(ranges).map_err(|source| Error::Map { mib, source })
}

/// The seals keep a backend that was broken into from cutting the file short,
/// which would end this process by SIGBUS.
fn memory_file(bytes: u64) -> io::Result<File> {
    let fd = memfd_create(c"guest-memory", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let file = File::from(fd);
    file.set_len(bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// Gives the memory to the VM, a slot per range. The caller keeps `memory` as
/// long as the VM.
pub fn register(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), Error> {
    for (slot, region) in memory.iter().enumerate() {
        let address = region.start_addr().0;
        let slot = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: address,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the region is a mapping of this process of that size, and
        // the caller keeps it for as long as the VM.
        unsafe { vm.set_user_memory_region(slot) }
            .map_err(|source| Error::Register { address, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn memory_around_the_hole_is_writable_and_the_hole_is_not() {
        let memory = make(3 * 1024 + 64).unwrap();
        for address in
            [0, layout::HOLE_START - 8, layout::HOLE_END, layout::HOLE_END + (64 << 20) - 8]
        {
            memory.write_obj(address ^ 0x5a, GuestAddress(address)).unwrap();
            assert_eq!(memory.read_obj::<u64>(GuestAddress(address)).unwrap(), address ^ 0x5a);
        }
        for address in [layout::HOLE_START, layout::HOLE_END - 8, layout::HOLE_END + (64 << 20)] {
            assert!(memory.write_obj(0u64, GuestAddress(address)).is_err());
        }
    }

    #[test]
    fn the_file_cannot_be_resized() {
        let memory = make(64).unwrap();
        let region = memory.iter().next().unwrap();
        let file = region.file_offset().unwrap().file();
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1 << 30).is_err());
    }
}
