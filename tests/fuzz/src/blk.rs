//! Any requests for the block device: they end, reach nothing but its disks,
//! and change none that is read-only.
#![no_main]

mod input;

use std::fs::File;
use std::os::unix::fs::FileExt;

use input::Input;
use libfuzzer_sys::fuzz_target;
use sandbox_devices::blk::Disk;
use sandbox_devices::mock::{Driver, Part};
use sandbox_devices::{Blk, Device};
use sandbox_vm_spec::disks::{SECTOR, start};

/// Length of the disks: 1 may be written, 2 may not.
const BYTES: u64 = 64 << 10;
/// Most bytes of a request here.
const MOST: u32 = 8 << 10;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut blk = Blk::new().unwrap().0;
    let mut files = Vec::new();
    for number in [1, 2] {
        let file = memory_file();
        let disk = Disk::new(file.try_clone().unwrap(), BYTES, number == 2).unwrap();
        blk.insert(number, disk);
        files.push(file);
    }
    let mut driver = Driver::new(&blk);
    let place = driver.buffer(MOST + 64);
    while let Some(kind) = input.byte() {
        let sector = start(u16::from(input.byte().unwrap_or(0) % 4)) / SECTOR;
        // Around the ends of the disks, where it matters.
        let sector = (sector + u64::from(input.half() % 256)).wrapping_sub(64);
        let mut header = u32::from(kind % 16).to_le_bytes().to_vec();
        header.extend(input.word().to_le_bytes());
        header.extend(sector.to_le_bytes());
        driver.write(place, &header);
        driver.write(place + 16, input.bytes(16));
        let (readable, writable) = (u32::from(input.half()) % MOST, u32::from(input.half()) % MOST);
        let part = |addr, len, write| Part { addr, len, write };
        driver.chain(0, &[part(place, 16 + readable, false), part(place, writable, true)]);
        if blk.kicked(0, &mut driver.io()).is_err() {
            break;
        }
        driver.returned(0);
    }
    let mut after = vec![0; BYTES as usize];
    files[1].read_exact_at(&mut after, 0).unwrap();
    assert!(after.iter().all(|byte| *byte == 7), "a read-only disk was changed");
    for file in files {
        assert_eq!(file.metadata().unwrap().len(), BYTES, "a disk has another length");
    }
});

/// A file in memory, full of sevens.
fn memory_file() -> File {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let file = File::from(memfd_create(c"disk", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all_at(&vec![7; BYTES as usize], 0).unwrap();
    file
}
