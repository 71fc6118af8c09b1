//! Directories and files of the host below the pod's share.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstatvfs, openat2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};

use super::options::Options;
use super::{MountError, MountTable};

/// Flags of every mount below the share. The fs process serves the guest's
/// requests with CAP_MKNOD: without `nodev`, code that runs in it could open any
/// device of the host. FUSE does not carry these flags, so that setuid programs
/// and device nodes work in the guest as the guest's own mounts have it.
pub(crate) const GUARDED: MountFlags =
    MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOEXEC);

/// What is to be mounted, and how.
pub(crate) struct Bind<'a> {
    /// A directory or file.
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
    guard(stage, stage, options.flags & MountFlags::RDONLY)?;
    if options.bind == Some(true) {
        let more = if options.rro { MountFlags::RDONLY } else { MountFlags::empty() };
        for below in MountTable::read().map_err(io::Error::other)?.below(stage) {
            // One that another mount hides has no path, for the fs process neither.
            guard(stage, below, more)?;
        }
    }
    Ok(())
}

/// Adds `more` and the guard's flags to the mount `mount`, at or below `stage`.
///
/// A guest may rename directories between the two at any time, so the path is
/// resolved once, below `stage` and without links.
fn guard(stage: &Path, mount: &Path, more: MountFlags) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut opened = openat2(CWD, stage, flags, Mode::empty(), ResolveFlags::empty())?;
    if let Ok(below) = mount.strip_prefix(stage)
        && below != Path::new("")
    {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        opened = openat2(&opened, below, flags, Mode::empty(), resolve)?;
    }
    let kept = kept_flags(&opened)?;
    let path = format!("/proc/thread-self/fd/{}", opened.as_raw_fd());
    Ok(mount_remount(path, MountFlags::BIND | GUARDED | kept | more, "")?)
}

/// A remount clears what it does not name.
fn kept_flags(mount: impl AsFd) -> io::Result<MountFlags> {
    let has = fstatvfs(mount)?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = pairs.into_iter().filter(|(is, _)| has.contains(*is)).map(|(_, flag)| flag);
    Ok(kept.fold(MountFlags::empty(), |all, flag| all | flag))
}

/// Makes a directory or an empty file, whatever can carry `source`.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};
    use rustix::fs::statvfs;
    use rustix::io::Errno;
    use rustix::mount::mount;

    use super::*;

    /// Only root mounts; `make test-vm-pod` runs it as root, with `--ignored`.
    #[test]
    #[ignore = "mounts, in a namespace of its own: root"]
    fn every_mount_is_guarded_and_keeps_its_other_flags() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["source", "source/writable", "source/fixed", "target"] {
            fs::create_dir(path(name)).unwrap();
        }
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        for (name, options) in [("source/writable", "rw"), ("source/fixed", "ro,noatime")] {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path(name));
            assert!(mount.status().unwrap().success());
        }
        for word in ["rbind", "bind"] {
            let options = Options::parse([word]);
            let source = &path("source");
            bind(&Bind { source, options: &options }, &path("stage"), &path("target")).unwrap();
            let table = MountTable::read().unwrap();
            let made = table.below(&path("target"));
            assert_eq!(made.len(), if word == "rbind" { 3 } else { 1 });
            for mount in made {
                let flags = statvfs(mount).unwrap().f_flag;
                let all = StatVfsMountFlags::NODEV
                    | StatVfsMountFlags::NOSUID
                    | StatVfsMountFlags::NOEXEC;
                assert!(flags.contains(all), "{}: {flags:?}", mount.display());
                let fixed = StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOATIME;
                assert_eq!(flags.contains(fixed), mount.ends_with("fixed"), "{flags:?}");
            }
            super::super::unmount_below(&path("target")).unwrap();
        }
    }

    /// Binds a directory with a mount in it; returns the errors of writing
    /// beside and in that mount.
    fn write_errors(words: &'static [&str]) -> [Option<i32>; 2] {
        let attempt = move || {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: root is needed");
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let dir = tempfile::tempdir().unwrap();
            mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), c"").unwrap();
            let [source, stage, target] = ["source", "stage", "target"].map(|n| dir.path().join(n));
            fs::create_dir_all(source.join("a b/inner")).unwrap();
            fs::create_dir(&target).unwrap();
            let inner = source.join("a b/inner");
            mount("tmpfs", &inner, "tmpfs", MountFlags::empty(), c"").unwrap();
            let options = Options::parse(words.iter().copied());
            bind(&Bind { source: &source, options: &options }, &stage, &target).unwrap();
            let errors = ["file", "a b/inner/file"].map(|name| {
                fs::write(target.join(name), "").err().and_then(|error| error.raw_os_error())
            });
            fs::write(inner.join("source"), "").expect("the source stays writable");
            unmount(dir.path(), UnmountFlags::DETACH).unwrap();
            errors
        };
        std::thread::spawn(attempt).join().unwrap()
    }

    #[test]
    #[ignore = "mounts, in a namespace of its own: root"]
    fn rro_reaches_the_mounts_below() {
        let refused = Some(Errno::ROFS.raw_os_error());
        assert_eq!(write_errors(&["rbind", "rro"]), [refused, refused]);
        assert_eq!(write_errors(&["rbind", "ro"]), [refused, None]);
        assert_eq!(write_errors(&["rbind"]), [None, None]);
    }
}
