//! Disks: parts of the one block device, which the host maps to its files. Each
//! becomes a partition without a partition table, with a symbolic link to it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl};
use sandbox_agent_protocol::{agent::Disk, disk_path};
use tokio::time::{Instant, sleep};

const BLOCK_DEVICES: &str = "/sys/block";

/// `BLKROSET` and `BLKPG` of linux/fs.h and linux/blkpg.h.
const BLKROSET: Opcode = 0x125d;
const BLKPG: Opcode = 0x1269;
const ADD_PARTITION: i32 = 1;
const DELETE_PARTITION: i32 = 2;

/// How long a disk may be in use after its last mount is gone: the mount
/// namespace of a process that has ended goes a moment after it, and the
/// kernel does not report when.
const IN_USE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// `struct blkpg_partition`.
#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: i32,
    unused: [u8; 128],
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument {
    op: i32,
    flags: i32,
    len: i32,
    data: *const Partition,
}

/// A disk that cannot be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the guest has no block device with the serial number {0:?}")]
    NoDevice(String),
    #[error("cannot {what} disk {number}: {source}")]
    Io { what: &'static str, number: u32, source: io::Error },
}

/// Disks that were added. They are to be removed again.
pub struct Disks {
    device: PathBuf,
    numbers: Vec<u32>,
}

impl Disks {
    /// None yet, of the block device with this serial number.
    pub fn of(serial: &str) -> Result<Self, DiskError> {
        let device = find(serial).ok_or_else(|| DiskError::NoDevice(serial.to_owned()))?;
        Ok(Self { device, numbers: Vec::new() })
    }

    /// Makes a disk be there.
    pub fn add(&mut self, disk: &Disk) -> Result<(), DiskError> {
        let number = disk.number;
        let failed = |what| move |source| DiskError::Io { what, number, source };
        let device = self.open().map_err(failed("reach the device of"))?;
        change(&device, ADD_PARTITION, disk).map_err(failed("make"))?;
        self.numbers.push(number);
        let node = self.node(number);
        if disk.read_only {
            forbid_writing(&node).map_err(failed("make read-only"))?;
        }
        link(&node, &disk_path(number)).map_err(failed("name"))
    }

    /// Removes all, once nothing uses them any more.
    pub async fn remove(&mut self) -> Result<(), DiskError> {
        let end = Instant::now() + IN_USE;
        while let Some(number) = self.numbers.last().copied() {
            let failed = |source| DiskError::Io { what: "remove", number, source };
            let disk = Disk { number, ..Default::default() };
            let device = self.open().map_err(failed)?;
            match change(&device, DELETE_PARTITION, &disk) {
                Err(error) if is_busy(&error) && Instant::now() < end => {
                    sleep(LOOK_AGAIN).await;
                    continue;
                }
                removed => removed.map_err(failed)?,
            }
            // It would be replaced by the next of this number.
            let _ = fs::remove_file(disk_path(number));
            self.numbers.pop();
        }
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        File::open(&self.device)
    }

    fn node(&self, number: u32) -> PathBuf {
        let mut name = self.device.clone().into_os_string();
        name.push(number.to_string());
        name.into()
    }
}

/// The device node of the block device with this serial number.
fn find(serial: &str) -> Option<PathBuf> {
    let devices = fs::read_dir(BLOCK_DEVICES).ok()?.flatten();
    let mut fitting = devices.filter(|device| {
        let found = fs::read_to_string(device.path().join("serial"));
        found.is_ok_and(|found| found.trim_end() == serial)
    });
    Some(Path::new("/dev").join(fitting.next()?.file_name()))
}

fn is_busy(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::BUSY)
}

fn change(device: &File, op: i32, disk: &Disk) -> io::Result<()> {
    let partition = Partition {
        start: signed(disk.start)?,
        length: signed(disk.length)?,
        number: i32::try_from(disk.number).map_err(io::Error::other)?,
        unused: [0; 128],
    };
    let len = size_of::<Partition>() as i32;
    let argument = Argument { op, flags: 0, len, data: &raw const partition };
    // SAFETY: BLKPG reads an argument of this layout, and the partition that it
    // points to lives through the call.
    Ok(unsafe { ioctl(device, Setter::<BLKPG, _>::new(argument)) }?)
}

fn signed(bytes: u64) -> io::Result<i64> {
    i64::try_from(bytes).map_err(io::Error::other)
}

fn forbid_writing(node: &Path) -> io::Result<()> {
    // SAFETY: BLKROSET reads an int.
    Ok(unsafe { ioctl(File::open(node)?, Setter::<BLKROSET, _>::new(1_i32)) }?)
}

fn link(node: &Path, path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
        rustix::fs::chmod(dir, Mode::RWXU)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(node, path)
}
