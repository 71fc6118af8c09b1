#![allow(clippy::unwrap_used)]

use std::io::Write;

use super::super::memory;
use super::*;

const MIB: u64 = 1 << 20;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// An ELF file with one segment of `code` at 16 MiB.
fn elf(code: &[u8]) -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for field in [16 * MIB, 64, 0] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let len = code.len() as u64;
    for field in [120, 16 * MIB, 16 * MIB, len, len, 4096] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend(code);
    elf
}

fn map(mib: u64) -> Vec<(u64, u64)> {
    e820(&memory::make(mib).unwrap()).iter().map(|e| (e.addr, e.addr + e.size)).collect()
}

#[test]
fn the_memory_map_leaves_the_hole_out() {
    let low = (0, layout::MP_TABLE);
    assert_eq!(map(128), [low, (MIB, 128 * MIB)]);
    assert_eq!(map(3072), [low, (MIB, layout::HOLE_START)]);
    let above = layout::HOLE_END..layout::HOLE_END + 1024 * MIB;
    assert_eq!(map(4096), [low, (MIB, layout::HOLE_START), (above.start, above.end)]);
}

#[test]
fn the_initramfs_is_high_page_aligned_and_off_the_kernel() {
    let kernel_end = 40 * MIB;
    assert_eq!(initramfs_start(128 * MIB, kernel_end, 4096), Some(128 * MIB - 4096));
    assert_eq!(initramfs_start(128 * MIB, kernel_end, 1), Some(128 * MIB - 4096));
    assert_eq!(initramfs_start(128 * MIB, kernel_end, 88 * MIB), Some(40 * MIB));
    assert_eq!(initramfs_start(128 * MIB, kernel_end, 88 * MIB + 1), None);
    assert_eq!(initramfs_start(128 * MIB, kernel_end, u64::MAX), None);
}

#[test]
fn everything_is_where_the_parameters_say() {
    let memory = memory::make(4096).unwrap();
    let entry = load(&memory, 2, file(&elf(b"code")), file(b"archive"), "one two").unwrap();
    assert_eq!(entry, 16 * MIB);
    let params: Params = memory.read_obj(GuestAddress(layout::ZERO_PAGE)).unwrap();
    let (image, size) = (params.0.hdr.ramdisk_image, params.0.hdr.ramdisk_size);
    assert_eq!(size, 7);
    let mut archive = [0; 7];
    memory.read_slice(&mut archive, GuestAddress(u64::from(image))).unwrap();
    assert_eq!(&archive, b"archive");
    let mut cmdline = [0; 8];
    memory.read_slice(&mut cmdline, GuestAddress(u64::from(params.0.hdr.cmd_line_ptr))).unwrap();
    assert_eq!(&cmdline, b"one two\0");
    assert_eq!(params.0.e820_entries, 3);
}

#[test]
fn what_cannot_be_loaded_is_named() {
    let memory = memory::make(64).unwrap();
    let load = |kernel: &[u8], initramfs: &[u8], cmdline: &str| {
        load(&memory, 1, file(kernel), file(initramfs), cmdline).unwrap_err().to_string()
    };
    assert!(load(b"", b"", "").contains("vmlinux"));
    assert!(load(b"MZ compressed", b"", "").contains("vmlinux"));
    assert!(load(&elf(b"code")[..100], b"", "").contains("vmlinux"));
    assert!(load(&elf(b"code"), &vec![0; 50 << 20], "").contains("52428800 bytes"));
    let long = "x".repeat(layout::CMDLINE_SIZE);
    assert!(load(&elf(b"code"), b"", &long).contains("2048 bytes"));
}
