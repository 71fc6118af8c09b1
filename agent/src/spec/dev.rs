//! Makes the image's `/dev` fit for libcontainer, which puts device nodes and
//! links there and stops at any that exists.

use std::io;
use std::path::Path;

use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::Errno;

use super::cwd::normal;
use super::rootfs;

/// What libcontainer makes itself.
const MADE: &[&str] = &[
    "core", "fd", "full", "kcore", "null", "ptmx", "random", "stderr", "stdin", "stdout", "tty",
    "urandom", "zero",
];

/// Refuses an image whose `/dev` is a link: it would be followed to the
/// guest's own files. Where nothing is mounted over `/dev`, removes what would
/// be in the way, as runc does by leaving it alone.
pub fn clear(spec: &Spec) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, rootfs(spec), flags, Mode::empty())?;
    match statat(&root, "dev", AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
        Ok(_) => return Err(io::Error::other("not a directory")),
        Err(errno) => return Err(errno.into()),
    }
    let mut mounts = spec.mounts().iter().flatten();
    if mounts.any(|mount| normal(mount.destination()) == Path::new("/dev")) {
        return Ok(());
    }
    let dev = openat(&root, "dev", flags | OFlags::NOFOLLOW, Mode::empty())?;
    for name in MADE {
        match unlinkat(&dev, *name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
