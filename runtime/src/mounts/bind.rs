//! Folders and files of the host below the pod's share.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};

use super::MountError;
use super::options::Options;

/// What is to be mounted, and how.
pub(crate) struct Bind<'a> {
    /// A folder or file.
    pub source: &'a Path,
    /// As in the OCI spec.
    pub options: &'a Options,
}

/// Mounts `bind` on `target`, which exists, by way of `stage`, which does not.
///
/// The share is a shared mount, so all that is mounted in it becomes shared.
/// Going by way of a private mount keeps what is unmounted later from being
/// unmounted at its source, and keeps the host's later mounts out unless the
/// options ask for them.
pub(crate) fn bind(bind: &Bind, stage: &Path, target: &Path) -> Result<(), MountError> {
    make_point(bind.source, stage)?;
    let failed = |source: io::Error| MountError::Mount {
        kind: "bind".to_owned(),
        from: bind.source.to_owned(),
        target: target.to_owned(),
        source,
    };
    attach(bind.source, stage, bind.options).map_err(failed)?;
    let moved = settle(stage, bind.options)
        .and_then(|()| Ok(mount_bind_recursive(stage, target)?))
        .map_err(failed);
    let unstaged = unmount(stage, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    moved?;
    unstaged.map_err(|e| MountError::Unmount { path: stage.to_owned(), source: e.into() })?;
    remove_point(stage)
}

fn attach(source: &Path, stage: &Path, options: &Options) -> io::Result<()> {
    match options.bind {
        Some(true) => mount_bind_recursive(source, stage)?,
        _ => mount_bind(source, stage)?,
    }
    Ok(())
}

fn settle(stage: &Path, options: &Options) -> io::Result<()> {
    let follows = options.propagation.is_some_and(|asked| {
        asked.intersects(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::SHARED)
    });
    let kind =
        if follows { MountPropagationFlags::DOWNSTREAM } else { MountPropagationFlags::PRIVATE };
    mount_change(stage, kind | MountPropagationFlags::REC)?;
    if options.flags.contains(MountFlags::RDONLY) {
        let kept = kept_flags(stage)?;
        mount_remount(stage, MountFlags::BIND | MountFlags::RDONLY | kept, "")?;
    }
    Ok(())
}

/// A remount clears what it does not name.
fn kept_flags(mount: &Path) -> io::Result<MountFlags> {
    let has = statvfs(mount)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = pairs.into_iter().filter(|(is, _)| has.contains(*is)).map(|(_, flag)| flag);
    Ok(kept.fold(MountFlags::empty(), |all, flag| all | flag))
}

/// Makes a folder or an empty file, whatever can carry `source`.
pub(crate) fn make_point(source: &Path, point: &Path) -> Result<(), MountError> {
    let made = fs::metadata(source).and_then(|meta| {
        if meta.is_dir() { fs::create_dir(point) } else { File::create_new(point).map(drop) }
    });
    made.map_err(|source| MountError::Point { path: point.to_owned(), source })
}

fn remove_point(point: &Path) -> Result<(), MountError> {
    let removed = match fs::symlink_metadata(point) {
        Ok(meta) if meta.is_dir() => fs::remove_dir(point),
        Ok(_) => fs::remove_file(point),
        Err(error) => Err(error),
    };
    removed.map_err(|source| MountError::Point { path: point.to_owned(), source })
}
