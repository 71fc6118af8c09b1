//! Direct 64-bit boot: kernel, initramfs, command line and `boot_params` in
//! the guest's memory (Linux, Documentation/arch/x86/boot.rst, "64-bit Boot
//! Protocol").

use std::fs::File;
use std::io;

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

use super::loader::Source;
use super::{layout, mp_table};

/// The guest cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel is no ELF file for this machine, or is cut short.
    #[error("the kernel is not an uncompressed x86-64 vmlinux, or does not fit in {mib} MiB")]
    Kernel { mib: u64, source: linux_loader::loader::Error },
    #[error("cannot read the initramfs")]
    Initramfs(#[source] io::Error),
    #[error(
        "an initramfs of {size} bytes and the kernel do not fit in {mib} MiB of memory; give the guest more"
    )]
    InitramfsRoom { size: u64, mib: u64 },
    #[error("cannot read the initramfs into the guest's memory")]
    InitramfsRead(#[source] vm_memory::GuestMemoryError),
    #[error("the kernel's command line has {0} bytes, Linux reads less than {max}", max = layout::CMDLINE_SIZE)]
    Cmdline(usize),
    #[error("cannot write the {what} into the guest's memory")]
    Write { what: &'static str, source: vm_memory::GuestMemoryError },
}

/// Where the initramfs is in the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    start: u64,
    len: u64,
}

/// Loads all that a guest of `vcpus` starts with; returns the address of its
/// first instruction.
pub fn load(
    memory: &GuestMemoryMmap,
    vcpus: u8,
    kernel: File,
    initramfs: File,
    cmdline: &str,
) -> Result<u64, Error> {
    let base = Some(GuestAddress(layout::HIGH_MEMORY));
    let loaded = Elf::load(memory, None, &mut Source::new(kernel, memory), base)
        .map_err(|source| Error::Kernel { mib: mib(memory), source })?;
    let initramfs = load_initramfs(memory, initramfs, loaded.kernel_end)?;
    write_cmdline(memory, cmdline)?;
    let table = mp_table::build(vcpus);
    write(memory, "MP table", layout::MP_TABLE, &table)?;
    let params = boot_params(memory, cmdline.len(), initramfs);
    memory
        .write_obj(Params(params), GuestAddress(layout::ZERO_PAGE))
        .map_err(|source| Error::Write { what: "boot parameters", source })?;
    Ok(loaded.kernel_load.0)
}

/// `boot_params` as bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Params(boot_params);

// SAFETY: a packed C structure of integers: any bytes are one of it.
unsafe impl vm_memory::ByteValued for Params {}

fn load_initramfs(memory: &GuestMemoryMmap, file: File, kernel_end: u64) -> Result<Placed, Error> {
    let mut source = Source::new(file, memory);
    let len = source.size().map_err(Error::Initramfs)?;
    let start = initramfs_start(low_end(memory), kernel_end, len)
        .ok_or(Error::InitramfsRoom { size: len, mib: mib(memory) })?;
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut source, len as usize)
        .map_err(Error::InitramfsRead)?;
    Ok(Placed { start, len })
}

/// As high as possible below the hole, out of the kernel's way.
fn initramfs_start(low_end: u64, kernel_end: u64, len: u64) -> Option<u64> {
    const PAGE: u64 = 4096;
    let start = low_end.checked_sub(len)? & !(PAGE - 1);
    (start >= kernel_end.max(layout::HIGH_MEMORY)).then_some(start)
}

fn write_cmdline(memory: &GuestMemoryMmap, cmdline: &str) -> Result<(), Error> {
    if cmdline.len() >= layout::CMDLINE_SIZE {
        return Err(Error::Cmdline(cmdline.len()));
    }
    let mut bytes = cmdline.as_bytes().to_vec();
    bytes.push(0);
    write(memory, "command line", layout::CMDLINE, &bytes)
}

fn write(
    memory: &GuestMemoryMmap,
    what: &'static str,
    address: u64,
    bytes: &[u8],
) -> Result<(), Error> {
    memory.write_slice(bytes, GuestAddress(address)).map_err(|source| Error::Write { what, source })
}

fn boot_params(memory: &GuestMemoryMmap, cmdline_len: usize, initramfs: Placed) -> boot_params {
    const BOOT_FLAG: u16 = 0xaa55;
    const HEADER_MAGIC: u32 = 0x5372_6448;
    const LOADER_UNDEFINED: u8 = 0xff;
    const KERNEL_ALIGNMENT: u32 = 0x100_0000;
    let mut params = boot_params::default();
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER_MAGIC;
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.kernel_alignment = KERNEL_ALIGNMENT;
    params.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    params.hdr.cmdline_size = cmdline_len as u32 + 1;
    // Below the hole, so below 4 GiB.
    params.hdr.ramdisk_image = initramfs.start as u32;
    params.hdr.ramdisk_size = initramfs.len as u32;
    let map = e820(memory);
    params.e820_entries = map.len() as u8;
    for (slot, entry) in params.e820_table.iter_mut().zip(map) {
        *slot = entry;
    }
    params
}

/// The memory map: RAM, without what is between the MP table and 1 MiB.
fn e820(memory: &GuestMemoryMmap) -> Vec<boot_e820_entry> {
    const RAM: u32 = 1;
    let ram = |addr, end: u64| boot_e820_entry { addr, size: end - addr, type_: RAM };
    let mut map = vec![ram(0, layout::MP_TABLE)];
    for region in memory.iter() {
        let start = region.start_addr().0.max(layout::HIGH_MEMORY);
        map.push(ram(start, region.start_addr().0 + region.len()));
    }
    map
}

/// End of the memory below the hole.
fn low_end(memory: &GuestMemoryMmap) -> u64 {
    memory.iter().next().map_or(0, GuestMemoryRegion::len)
}

fn mib(memory: &GuestMemoryMmap) -> u64 {
    memory.iter().map(GuestMemoryRegion::len).sum::<u64>() >> 20
}

#[cfg(test)]
mod tests;
