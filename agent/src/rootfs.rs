//! A root file system that the agent assembles, of disks and directories
//! of the share.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_bind_recursive,
    mount_remount, move_mount, unmount,
};
use sandbox_agent_protocol::agent::{Directory, Mount, RootFilesystem};
use sandbox_agent_protocol::{rootfs_dir, rootfs_point, shared_dir};

use crate::disk::{DiskError, Disks};

/// Longest line of the kernel about a mount that failed.
const MAX_WORDS: usize = 512;

/// A root file system that cannot be had or given back.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot make the directory {path}: {source}", path = path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot mount {kind} {from} in the guest{log}: {source}")]
    Mount {
        kind: String,
        from: String,
        /// The lines of the kernel about it.
        log: String,
        source: io::Error,
    },
    #[error("cannot unmount {path} in the guest: {source}", path = path.display())]
    Unmount { path: PathBuf, source: io::Error },
}

/// What a container's root file system is made of. It is to be removed.
pub struct Rootfs {
    container: String,
    disks: Disks,
    points: Vec<PathBuf>,
}

impl Rootfs {
    /// Puts the root file system of `container` together; when that fails
    /// nothing is left of it.
    pub async fn make(container: &str, wanted: &RootFilesystem) -> Result<Self, RootfsError> {
        let disks = Disks::of(&wanted.serial)?;
        let mut rootfs = Self { container: container.to_owned(), disks, points: Vec::new() };
        match rootfs.add_all(wanted) {
            Ok(()) => Ok(rootfs),
            Err(error) => {
                // The first error is the one to report.
                let _ = rootfs.remove().await;
                Err(error)
            }
        }
    }

    fn add_all(&mut self, wanted: &RootFilesystem) -> Result<(), RootfsError> {
        wanted.disks.iter().try_for_each(|disk| self.disks.add(disk))?;
        let last = wanted.mounts.len().saturating_sub(1);
        for (index, mount) in wanted.mounts.iter().enumerate() {
            mount.directories.iter().try_for_each(make_directory)?;
            let point = if index == last {
                shared_dir(&self.container).join("rootfs")
            } else {
                let point = rootfs_point(&self.container, index);
                let made = fs::create_dir_all(&point);
                made.map_err(|source| RootfsError::Folder { path: point.clone(), source })?;
                point
            };
            mount_at(mount, &point)?;
            self.points.push(point);
        }
        Ok(())
    }

    /// Takes it apart again, when no process uses it any more. What was written
    /// to disks is with the host then. Can be called again.
    pub async fn remove(&mut self) -> Result<(), RootfsError> {
        while let Some(point) = self.points.last() {
            // Mounts of others on it go with it.
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            unmount(point, flags).map_err(|errno| RootfsError::Unmount {
                path: point.clone(),
                source: errno.into(),
            })?;
            self.points.pop();
        }
        self.disks.remove().await?;
        let dir = rootfs_dir(&self.container);
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(RootfsError::Unmount { path: dir, source })
            }
            _ => Ok(()),
        }
    }
}

fn make_directory(wanted: &Directory) -> Result<(), RootfsError> {
    let path = Path::new(&wanted.path);
    let made = DirBuilder::new().mode(wanted.mode).create(path).and_then(|()| {
        chown(path, Some(wanted.uid), Some(wanted.gid))?;
        fs::set_permissions(path, Permissions::from_mode(wanted.mode))
    });
    match made {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(RootfsError::Folder { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn mount_at(mount: &Mount, point: &Path) -> Result<(), RootfsError> {
    let mut log = String::new();
    let done = match mount.type_.as_str() {
        "bind" => bind(mount, point),
        _ => mount_new(mount, point, &mut log),
    };
    done.map_err(|source| RootfsError::Mount {
        kind: mount.type_.clone(),
        from: mount.source.clone(),
        log,
        source,
    })
}

fn bind(mount: &Mount, point: &Path) -> io::Result<()> {
    mount_bind_recursive(&mount.source, point)?;
    if mount.options.iter().any(|word| word == "ro") {
        mount_remount(point, MountFlags::BIND | MountFlags::RDONLY, "")?;
    }
    Ok(())
}

/// By the calls that take options one by one: mount(2) takes a page of them,
/// which is too little for an overlay of a hundred layers.
fn mount_new(mount: &Mount, point: &Path, log: &mut String) -> io::Result<()> {
    let context = fsopen(&mount.type_, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let configured = configure(context.as_fd(), mount).and_then(|attributes| {
        fsconfig_create(context.as_fd())?;
        Ok(attributes)
    });
    let attributes = configured.inspect_err(|_| *log = log_of(context.as_fd()))?;
    let made = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok(move_mount(made, "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn configure(context: BorrowedFd, mount: &Mount) -> io::Result<MountAttrFlags> {
    fsconfig_set_string(context, "source", &mount.source)?;
    let mut attributes = MountAttrFlags::empty();
    for word in &mount.options {
        if let Some((attribute, set)) = attribute(word) {
            attributes.set(attribute, set);
        } else if let Some((key, value)) = word.split_once('=') {
            fsconfig_set_string(context, key, value)?;
        } else {
            fsconfig_set_flag(context, word)?;
        }
        if word == "ro" {
            fsconfig_set_flag(context, word)?;
        }
    }
    Ok(attributes)
}

/// What of a mount itself, and not of its file system, a word sets or clears.
fn attribute(word: &str) -> Option<(MountAttrFlags, bool)> {
    Some(match word {
        "ro" => (MountAttrFlags::MOUNT_ATTR_RDONLY, true),
        "rw" => (MountAttrFlags::MOUNT_ATTR_RDONLY, false),
        "nosuid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, true),
        "suid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, false),
        "nodev" => (MountAttrFlags::MOUNT_ATTR_NODEV, true),
        "dev" => (MountAttrFlags::MOUNT_ATTR_NODEV, false),
        "noexec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, true),
        "exec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, false),
        "noatime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, true),
        "nodiratime" => (MountAttrFlags::MOUNT_ATTR_NODIRATIME, true),
        "strictatime" => (MountAttrFlags::MOUNT_ATTR_STRICTATIME, true),
        // The kernel's own default.
        "relatime" => (MountAttrFlags::MOUNT_ATTR_NOATIME, false),
        _ => return None,
    })
}

/// The lines of the kernel about a mount that it refuses, each
/// with a letter and a space before it.
fn log_of(context: BorrowedFd) -> String {
    let mut log = String::new();
    let mut line = [0; MAX_WORDS];
    while let Ok(len) = rustix::io::read(context, &mut line) {
        let words = String::from_utf8_lossy(&line[..len]);
        let words = words.trim_end();
        log.push_str(": ");
        log.push_str(words.get(2..).unwrap_or(words));
    }
    log
}
