//! A container's root file system, as described by containerd's snapshotter.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::mount::{MountFlags, mount, mount_change};

use super::MountError;
use super::bind::{Bind, GUARDED, bind};
use super::options::Options;
use crate::container::RootfsMount;

/// mount(2) reads at most a page of data, with a NUL at its end.
const MAX_DATA: usize = 4095;
/// Room for a thread that makes one system call.
const STACK: usize = 64 * 1024;

/// Does all of `mounts` on and below `rootfs`, a directory that exists. `stage`
/// is a path that is free.
pub(crate) fn mount_rootfs(
    mounts: &[RootfsMount],
    stage: &Path,
    rootfs: &Path,
) -> Result<(), MountError> {
    for spec in mounts {
        let point = Point::find(rootfs, &spec.target)?;
        let options = Options::parse(spec.options.iter().map(String::as_str));
        if options.bind.is_some() || spec.kind == "bind" {
            let source = Path::new(&spec.source);
            bind(&Bind { source, options: &options }, stage, &point.path)?;
            continue;
        }
        mount_one(spec, &options, &point.path).map_err(|source| MountError::Mount {
            kind: spec.kind.clone(),
            from: spec.source.clone().into(),
            target: rootfs.join(&spec.target),
            source,
        })?;
    }
    Ok(())
}

/// A mount point that a symlink of the image cannot move elsewhere.
struct Point {
    path: PathBuf,
    /// Keeps `path` valid.
    _open: Option<File>,
}

impl Point {
    fn find(rootfs: &Path, target: &str) -> Result<Self, MountError> {
        let target = target.trim_matches('/');
        if target.is_empty() {
            return Ok(Self { path: rootfs.to_owned(), _open: None });
        }
        if Path::new(target).components().any(|c| c == std::path::Component::ParentDir) {
            return Err(MountError::Climbs(target.to_owned()));
        }
        Self::open(rootfs, target)
            .map_err(|source| MountError::Point { path: rootfs.join(target), source })
    }

    fn open(rootfs: &Path, target: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, rootfs, flags, Mode::empty())?;
        let open = openat2(&root, target, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        let path = format!("/proc/self/fd/{}", open.as_raw_fd()).into();
        Ok(Self { path, _open: Some(open.into()) })
    }
}

fn mount_one(spec: &RootfsMount, options: &Options, point: &Path) -> io::Result<()> {
    if options.looped {
        return mount_looped(spec, point);
    }
    mount_fs(spec, options, point)?;
    if let Some(propagation) = options.propagation {
        mount_change(point, propagation)?;
    }
    Ok(())
}

fn mount_fs(spec: &RootfsMount, options: &Options, point: &Path) -> io::Result<()> {
    let data = options.data.join(",");
    let flags = options.flags | GUARDED;
    if data.len() <= MAX_DATA {
        let data = CString::new(data)?;
        return Ok(mount(&spec.source, point, &spec.kind, flags, data.as_c_str())?);
    }
    let short = Shortened::of(&options.data).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "its options are longer than a page")
    })?;
    short.mount(spec, flags, point)
}

/// An overlay with many layers: their paths, seen from the directory that all of
/// them are below.
struct Shortened {
    directory: PathBuf,
    data: CString,
}

impl Shortened {
    fn of(data: &[String]) -> Option<Self> {
        let lowers = data.iter().find_map(|word| word.strip_prefix("lowerdir="))?;
        let directory = common_directory(lowers.split(':'))?;
        let relative: Option<Vec<&str>> = lowers
            .split(':')
            .map(|lower| Path::new(lower).strip_prefix(&directory).ok()?.to_str())
            .collect();
        let lowerdir = format!("lowerdir={}", relative?.join(":"));
        let words: Vec<&str> = data
            .iter()
            .map(|word| if word.starts_with("lowerdir=") { &lowerdir } else { word.as_str() })
            .collect();
        let data = words.join(",");
        (data.len() <= MAX_DATA).then_some(())?;
        Some(Self { directory, data: CString::new(data).ok()? })
    }

    /// Runs in a separate thread with a separate working directory.
    fn mount(self, spec: &RootfsMount, flags: MountFlags, point: &Path) -> io::Result<()> {
        let mounting = || {
            unshare(CloneFlags::CLONE_FS)?;
            std::env::set_current_dir(&self.directory)?;
            Ok(mount(&spec.source, point, &spec.kind, flags, self.data.as_c_str())?)
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, mounting)?;
            thread.join().map_err(|_| io::Error::other("the mounting thread panicked"))?
        })
    }
}

/// The longest directory that all paths are below.
pub(super) fn common_directory<'a>(mut paths: impl Iterator<Item = &'a str>) -> Option<PathBuf> {
    let mut directory =
        Path::new(paths.next()?).parent().filter(|dir| dir.is_absolute())?.to_owned();
    for path in paths {
        while !Path::new(path).starts_with(&directory) || Path::new(path) == directory {
            if !directory.pop() {
                return None;
            }
        }
    }
    Some(directory)
}

/// Loop devices are set up by mount(8).
fn mount_looped(spec: &RootfsMount, point: &Path) -> io::Result<()> {
    let point = fs::canonicalize(point)?;
    // The last word wins over `dev`, `suid` and `exec` before it: `GUARDED`.
    let options = format!("{},nodev,nosuid,noexec", spec.options.join(","));
    let output = Command::new("mount")
        .args(["-t", &spec.kind, "-o", &options, "--"])
        .arg(&spec.source)
        .arg(point)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests;
