//! The guest's own file systems.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_move, mount_remount};
use rustix::process::{chdir, chroot};

use crate::paths::ETC;

/// A mount that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {what} on {target}: {source}")]
pub struct MountError {
    what: &'static str,
    target: String,
    source: io::Error,
}

struct Entry {
    target: &'static str,
    fstype: &'static str,
    flags: MountFlags,
    options: &'static CStr,
    /// A kernel may lack it.
    optional: bool,
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const TMP: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const DEV: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

const fn entry(
    target: &'static str,
    fstype: &'static str,
    flags: MountFlags,
    options: &'static CStr,
) -> Entry {
    Entry { target, fstype, flags, options, optional: false }
}

/// What the agent needs to serve.
const FIRST: &[Entry] = &[
    entry("/proc", "proc", SAFE, c""),
    entry("/sys", "sysfs", SAFE, c""),
    entry("/dev", "devtmpfs", DEV, c"mode=0755"),
    entry("/run", "tmpfs", TMP, c"mode=0755"),
    entry("/tmp", "tmpfs", TMP, c"mode=1777"),
    entry("/sys/fs/cgroup", "cgroup2", SAFE, c"nsdelegate,memory_recursiveprot"),
];

/// What only the odd program asks for; mounted while the host reads our answer.
const LATER: &[Entry] = &[
    entry("/dev/pts", "devpts", DEV, c"mode=0620,ptmxmode=0666,gid=5"),
    entry("/dev/shm", "tmpfs", SAFE, c"mode=1777"),
    Entry { optional: true, ..entry("/dev/mqueue", "mqueue", SAFE, c"") },
    Entry { optional: true, ..entry("/sys/fs/bpf", "bpf", SAFE, c"mode=0700") },
];

/// Mounts what serving needs and makes the root fit for containers.
pub fn first() -> Result<(), MountError> {
    leave_rootfs()?;
    FIRST.iter().try_for_each(apply)?;
    // A container could reach our binary through /proc/self/exe.
    remount_root_read_only()
}

pub fn later() -> Result<(), MountError> {
    LATER.iter().try_for_each(apply)
}

/// Mounts the virtio-fs share `tag` at `target`.
pub fn share(tag: &str, target: &str) -> Result<(), MountError> {
    let failed = |source| MountError { what: "the share", target: target.to_owned(), source };
    fs::create_dir_all(target).map_err(failed)?;
    mount(tag, target, "virtiofs", MountFlags::empty(), None).map_err(|errno| failed(errno.into()))
}

fn apply(entry: &Entry) -> Result<(), MountError> {
    match try_apply(entry) {
        Err(_) if entry.optional => Ok(()),
        done => done.map_err(|source| MountError {
            what: entry.fstype,
            target: entry.target.to_owned(),
            source,
        }),
    }
}

fn try_apply(entry: &Entry) -> io::Result<()> {
    if !Path::new(entry.target).is_dir() {
        fs::create_dir_all(entry.target)?;
    }
    match mount(entry.fstype, entry.target, entry.fstype, entry.flags, entry.options) {
        Ok(()) => Ok(()),
        // The kernel mounts /dev itself where it is configured so.
        Err(Errno::BUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// pivot_root(2) refuses to leave the kernel's own rootfs, and containers
/// pivot; so the same files are mounted over it and become the root.
fn leave_rootfs() -> Result<(), MountError> {
    let failed =
        |errno: Errno| MountError { what: "root", target: "/".into(), source: errno.into() };
    for dir in ["/root", "/proc", "/sys", "/dev", "/run", "/tmp"] {
        fs::create_dir_all(dir).map_err(|source| MountError {
            what: "root",
            target: dir.to_owned(),
            source,
        })?;
    }
    symlink(ETC, "/etc").map_err(|source| MountError {
        what: "root",
        target: "/etc".into(),
        source,
    })?;
    mount_bind("/", "/root").map_err(failed)?;
    chdir("/root").map_err(failed)?;
    mount_move(".", "/").map_err(failed)?;
    chroot(".").map_err(failed)?;
    chdir("/").map_err(failed)
}

fn remount_root_read_only() -> Result<(), MountError> {
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    mount_remount("/", flags, "").map_err(|errno| MountError {
        what: "root",
        target: "/".into(),
        source: errno.into(),
    })
}
