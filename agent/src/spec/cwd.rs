//! A working directory that is not there is made, as runc does.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use libcontainer::rootfs::utils::is_bind;
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;

use super::rootfs;

/// How often a path is resolved anew when the kernel reports that a mount or a
/// rename elsewhere in the guest may have moved a `..` of it. Each of those is
/// short; a container that renames for ever must not keep the agent here.
const MAX_RACES: usize = 128;

/// Makes the working directory of `spec` where the container will see it: in
/// its root, or in what is bound over that. Below any other mount, such as a
/// tmpfs, it cannot be made beforehand, and a missing one fails later.
pub fn make(spec: &Spec) -> io::Result<()> {
    let Some(process) = spec.process() else { return Ok(()) };
    let cwd = normal(process.cwd());
    let mounts = spec.mounts().iter().flatten();
    let over = mounts
        .filter(|mount| cwd.starts_with(normal(mount.destination())))
        .max_by_key(|mount| normal(mount.destination()).components().count());
    match over {
        None => make_in(&rootfs(spec), &cwd),
        Some(mount) if is_bind(mount) => {
            let source = mount.source().clone().unwrap_or_default();
            let destination = normal(mount.destination());
            make_in(&source, cwd.strip_prefix(&destination).unwrap_or(&cwd))
        }
        Some(_) => Ok(()),
    }
}

/// Resolves `.` and `..` by name, as runc does with a spec's paths.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
    }
    normal
}

/// Makes each missing directory of `path` below `root`. Symbolic links of the
/// image are followed, and never out of it.
fn make_in(root: &Path, path: &Path) -> io::Result<()> {
    let mut dir = open_in(CWD, root, ResolveFlags::empty())?;
    let root = open_in(CWD, root, ResolveFlags::empty())?;
    let mut reached = PathBuf::new();
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        reached.push(name);
        dir = match open_in(&root, &reached, ResolveFlags::IN_ROOT) {
            Err(Errno::NOENT) => {
                mkdirat(&dir, name, Mode::from_raw_mode(0o755))?;
                open_in(&dir, Path::new(name), ResolveFlags::IN_ROOT)?
            }
            opened => opened?,
        };
    }
    Ok(())
}

fn open_in(
    dir: impl std::os::fd::AsFd,
    path: &Path,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for _ in 0..MAX_RACES {
        match openat2(&dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}
