//! What a container has on the host: its part of the share.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstatvfs, openat2};
use rustix::io::Errno;
use sandbox_agent_protocol::agent::{Disk as GuestDisk, RootFilesystem};
use sandbox_agent_protocol::{disk_path, shared_dir};
use sandbox_vm_spec::disks::{Disk, SERIAL, start};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::bundle;
use crate::container::{CreateContainer, RootfsMount};
use crate::disks::{Attached, DiskError, Disks};
use crate::error::Error;
use crate::guest_spec::{HostBind, translate};
use crate::hooks::Hooks;
use crate::kill_point;
use crate::machine::Holdings;
use crate::mounts::{
    Bind, MountError, Options, Provide, assemble, bind, is_for_guest, is_writable, make_point,
    mount_rootfs, unmount_below,
};
use crate::pod_directory::{PodDirectory, SEARCHABLE};
use crate::pod_spec::RESOLV_CONF;

use super::container_hooks::ContainerHooks;

/// The pod's holdings, gone once the pod is torn down. Held for reading while
/// something is mounted, so that a tear-down comes before or after it and
/// never in between.
pub(super) type SharedHoldings = Arc<RwLock<Option<Holdings>>>;

/// A container's mounts and their points, and its disks. Dropped, they are
/// gone.
#[derive(Debug)]
pub(super) struct HostSide {
    held: SharedHoldings,
    share: PathBuf,
    tree: PathBuf,
    disks: Vec<Attached>,
}

/// A container that is ready for the guest.
pub(super) struct Prepared {
    pub side: HostSide,
    pub guest: GuestInput,
    pub hooks: ContainerHooks,
}

/// What the agent makes it of.
pub(super) struct GuestInput {
    pub spec: Vec<u8>,
    /// Where the root is not in the share.
    pub rootfs: Option<RootFilesystem>,
}

/// The locked directory of a pod that is not torn down.
fn directory(held: &OwnedRwLockReadGuard<Option<Holdings>>) -> Option<&PodDirectory> {
    held.as_ref().and_then(|holdings| holdings.directory.as_ref())
}

fn add_sysctls(spec: &mut Spec, sysctls: &HashMap<String, String>) {
    if let Some(linux) = spec.linux_mut()
        && !sysctls.is_empty()
    {
        let mut all = sysctls.clone();
        all.extend(linux.sysctl().clone().unwrap_or_default());
        linux.set_sysctl(Some(all));
    }
}

impl HostSide {
    /// Mounts all that `create` and its spec name; a container without a
    /// resolv.conf gets `resolv_conf`; the spec's sysctls override the pod's
    /// `sysctls`. None when the pod is torn down. Blocks.
    pub fn prepare(
        held: SharedHoldings,
        locked: &OwnedRwLockReadGuard<Option<Holdings>>,
        create: &CreateContainer,
        sysctls: &HashMap<String, String>,
        resolv_conf: Option<&Path>,
    ) -> Result<Option<Prepared>, Error> {
        let Some(directory) = directory(locked) else { return Ok(None) };
        let mut spec = bundle::read(&create.bundle)?;
        add_sysctls(&mut spec, sysctls);
        let hooks = Hooks::of(&spec, &create.id, &create.bundle);
        let with = |resolv_conf| translate(spec.clone(), &create.id, resolv_conf);
        let mut spec = with(resolv_conf)?;
        let stage = directory.stage(&create.id);
        let mut side = Self {
            held,
            share: directory.share().join(&create.id),
            tree: directory.tree().join(&create.id),
            disks: Vec::new(),
        };
        side.make_dirs()?;
        kill_point::reach("create: folders");
        let rootfs = if is_for_guest(&create.rootfs) {
            Some(side.provide_root(create, &stage, locked)?)
        } else {
            side.mount_root(create, &spec.root, &stage)?;
            None
        };
        if resolv_conf.is_some() && !side.can_have(Path::new(RESOLV_CONF), rootfs.as_ref()) {
            spec = with(None)?;
        }
        side.mount_binds(&spec.binds, &stage)?;
        let hooks = ContainerHooks::new(hooks, directory.hooks());
        let guest = GuestInput { spec: spec.json, rootfs };
        Ok(Some(Prepared { side, guest, hooks }))
    }

    /// Attaches the layers of the container's root; returns the mounts that
    /// assemble it in the guest.
    fn provide_root(
        &mut self,
        create: &CreateContainer,
        stage: &Path,
        locked: &OwnedRwLockReadGuard<Option<Holdings>>,
    ) -> Result<RootFilesystem, MountError> {
        let disks = locked.as_ref().and_then(|holdings| holdings.disks.clone());
        let mut layers = Layers {
            disks: disks.as_ref(),
            attached: &mut self.disks,
            directories: 0,
            of_host: (self.tree.join("layers"), self.share.join("layers")),
            of_guest: shared_dir(&create.id).join("layers"),
            stage,
        };
        let mounts = assemble(&create.rootfs, &create.id, &mut layers)?;
        let disks = self.disks.iter().map(|attached| in_guest(&attached.disk)).collect();
        let serial = SERIAL.to_owned();
        Ok(RootFilesystem { serial, disks, mounts, ..Default::default() })
    }

    fn make_dirs(&self) -> Result<(), MountError> {
        let directories = ["rootfs", "mounts", "layers"].map(|name| self.tree.join(name));
        for dir in [self.tree.clone()].into_iter().chain(directories) {
            let made = DirBuilder::new().mode(SEARCHABLE).create(&dir);
            made.map_err(|source| MountError::Point { path: dir, source })?;
        }
        Ok(())
    }

    /// With no mounts of containerd's, the root is a directory that the spec
    /// names: `ctr run --rootfs`.
    fn mount_root(
        &self,
        create: &CreateContainer,
        root: &Path,
        stage: &Path,
    ) -> Result<(), MountError> {
        let rootfs = self.share.join("rootfs");
        if !create.rootfs.is_empty() {
            return mount_rootfs(&create.rootfs, stage, &rootfs);
        }
        let own = RootfsMount {
            kind: "bind".to_owned(),
            source: create.bundle.join(root).to_string_lossy().into_owned(),
            target: String::new(),
            options: vec!["rbind".to_owned()],
        };
        mount_rootfs(&[own], stage, &rootfs)
    }

    /// Whether something can be mounted there: it is there, or can be made. What
    /// a container has not asked for is no reason that it does not start.
    fn can_have(&self, path: &Path, in_guest: Option<&RootFilesystem>) -> bool {
        if let Some(rootfs) = in_guest {
            return is_writable(&rootfs.mounts);
        }
        let rootfs = self.share.join("rootfs");
        let Ok(root) = File::open(&rootfs) else { return false };
        let below = path.strip_prefix("/").unwrap_or(path);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let there = openat2(&root, below, flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok();
        let is_writable = || {
            let of = fstatvfs(&root);
            of.is_ok_and(|of| !of.f_flag.contains(StatVfsMountFlags::RDONLY))
        };
        there || is_writable()
    }

    fn mount_binds(&self, binds: &[HostBind], stage: &Path) -> Result<(), MountError> {
        for (index, HostBind { source, options }) in binds.iter().enumerate() {
            let name = index.to_string();
            make_point(source, &self.tree.join("mounts").join(&name))?;
            bind(&Bind { source, options }, stage, &self.share.join("mounts").join(name))?;
        }
        Ok(())
    }

    fn remove(&self) -> Result<(), MountError> {
        // Removing would else reach through the mounts.
        unmount_below(&self.share)?;
        match fs::remove_dir_all(&self.tree) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(MountError::Point { path: self.tree.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

/// Attaches the layers of a root to the guest.
struct Layers<'a> {
    disks: Option<&'a Disks>,
    attached: &'a mut Vec<Attached>,
    directories: usize,
    /// Where points are made, and where they are mounted on.
    of_host: (PathBuf, PathBuf),
    of_guest: PathBuf,
    stage: &'a Path,
}

impl Provide for Layers<'_> {
    fn disk(&mut self, source: &Path, read_only: bool) -> Result<PathBuf, MountError> {
        let ended = || {
            let (path, why) = (source.to_owned(), "it has ended".to_owned());
            MountError::Disk(DiskError::Refused { path, why })
        };
        let attached = self.disks.ok_or_else(ended)?.attach(source, read_only)?;
        let path = disk_path(attached.disk.number.into());
        self.attached.push(attached);
        Ok(path)
    }

    fn upper(&mut self, source: &Path) -> Result<PathBuf, MountError> {
        if takes_marks(source) {
            self.bind_directory(source)
        } else {
            Err(MountError::Upper { path: source.to_owned() })
        }
    }

    fn bind_directory(&mut self, source: &Path) -> Result<PathBuf, MountError> {
        let name = self.directories.to_string();
        self.directories += 1;
        make_point(source, &self.of_host.0.join(&name))?;
        let options = Options::parse(["rbind"]);
        let bound = Bind { source, options: &options };
        bind(&bound, self.stage, &self.of_host.1.join(&name))?;
        Ok(self.of_guest.join(name))
    }
}

/// Whether an overlay of a guest can mark files there as it does: by attributes
/// that users may set.
fn takes_marks(directory: &Path) -> bool {
    let mut value = [0; 1];
    let asked = rustix::fs::getxattr(directory, "user.overlay.opaque", &mut value);
    asked != Err(Errno::OPNOTSUPP)
}

fn in_guest(disk: &Disk) -> GuestDisk {
    GuestDisk {
        number: disk.number.into(),
        start: start(disk.number),
        length: disk.bytes,
        read_only: disk.read_only,
        ..Default::default()
    }
}

impl Drop for HostSide {
    fn drop(&mut self) {
        // A pod that is being torn down, or is, takes this with it.
        let Ok(held) = self.held.try_read() else { return };
        if held.is_some()
            && let Err(error) = self.remove()
        {
            tracing::error!("something of a container stays until its pod ends: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_without_attributes_are_told_from_others() {
        assert!(!takes_marks(Path::new("/proc")));
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(takes_marks(here), "{} must be on a disk", here.display());
    }
}
