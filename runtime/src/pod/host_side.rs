//! What a container has on the host: its part of the share.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstatvfs, openat2};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::bundle;
use crate::container::{CreateContainer, RootfsMount};
use crate::error::Error;
use crate::folder::{Folder, SEARCHABLE};
use crate::guest_spec::{HostBind, translate};
use crate::hooks::Hooks;
use crate::machine::Holdings;
use crate::mounts::{Bind, MountError, bind, make_point, mount_rootfs, unmount_below};

use super::RESOLV_CONF;
use super::hooked::Hooked;

/// The pod's holdings, gone once the pod is torn down. Held for reading while
/// something is mounted, so that a tear-down comes before or after it and
/// never in between.
pub(super) type Held = Arc<RwLock<Option<Holdings>>>;

/// A container's mounts and their points. Dropped, they are gone.
#[derive(Debug)]
pub(super) struct HostSide {
    held: Held,
    share: PathBuf,
    tree: PathBuf,
}

/// A container that is ready for the guest.
pub(super) struct Prepared {
    pub side: HostSide,
    /// For the agent.
    pub spec: Vec<u8>,
    pub hooks: Hooked,
}

/// The locked folder of a pod that is not torn down.
fn folder(held: &OwnedRwLockReadGuard<Option<Holdings>>) -> Option<&Folder> {
    held.as_ref().and_then(|holdings| holdings.folder.as_ref())
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
    /// resolv.conf gets `resolv_conf`, and the pod's `sysctls` where it does not
    /// say others. None when the pod is torn down. Blocks.
    pub fn prepare(
        held: Held,
        locked: &OwnedRwLockReadGuard<Option<Holdings>>,
        create: &CreateContainer,
        sysctls: &HashMap<String, String>,
        resolv_conf: Option<&Path>,
    ) -> Result<Option<Prepared>, Error> {
        let Some(folder) = folder(locked) else { return Ok(None) };
        let mut spec = bundle::read(&create.bundle)?;
        add_sysctls(&mut spec, sysctls);
        let hooks = Hooks::of(&spec, &create.id, &create.bundle);
        let with = |resolv_conf| translate(spec.clone(), &create.id, resolv_conf);
        let mut spec = with(resolv_conf)?;
        let stage = folder.stage(&create.id);
        let side = Self {
            held,
            share: folder.share().join(&create.id),
            tree: folder.tree().join(&create.id),
        };
        side.make_dirs()?;
        side.mount_root(create, &spec.root, &stage)?;
        if resolv_conf.is_some() && !side.can_have(Path::new(RESOLV_CONF)) {
            spec = with(None)?;
        }
        side.mount_binds(&spec.binds, &stage)?;
        let hooks = Hooked::new(hooks, folder.hooks());
        Ok(Some(Prepared { side, spec: spec.json, hooks }))
    }

    fn make_dirs(&self) -> Result<(), MountError> {
        for dir in [self.tree.clone(), self.tree.join("rootfs"), self.tree.join("mounts")] {
            let made = DirBuilder::new().mode(SEARCHABLE).create(&dir);
            made.map_err(|source| MountError::Point { path: dir, source })?;
        }
        Ok(())
    }

    /// With no mounts of containerd's, the root is a folder that the spec
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
    fn can_have(&self, path: &Path) -> bool {
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
