//! The pod's cgroup on the host, on hosts with cgroups v1, v2 or both.
//!
//! The pod's processes run in `linux.cgroupsPath`, so that what the orchestrator
//! limits and measures there is the whole sandbox. The container's own limits
//! hold inside the guest. Hierarchies, creation and joining are those of
//! cgroups-rs. It does not record which directories it created and waits 150 ms for
//! a removal; both are here.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cgroups_rs::CgroupPid;
use cgroups_rs::fs::{self, hierarchies};
use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::failure::ErrorKind;

/// How long the kernel may take to let go of a cgroup whose processes have
/// been killed; `delete` as a whole has 5 seconds.
const REMOVAL: Duration = Duration::from_secs(2);
/// Between two tries: version 1 has no event for a cgroup that becomes empty.
const PAUSE: Duration = Duration::from_millis(5);
/// Extended attribute of every directory that a pod created. The pod that created
/// a parent may end before others that use it: the last of them removes it, and
/// this attribute tells it from a parent that another program created.
const MARK: &str = "trusted.sandbox";
/// How often another pod's end may remove a parent while it is in use here.
const MAX_TRIES: usize = 10;

/// Why a cgroup is refused or cannot be used.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("invalid cgroups path {0:?}: it must have no '..' and no NUL")]
    Path(String),
    #[error("cannot {what} the cgroup {path}: {error}", path = path.display())]
    Fs {
        what: &'static str,
        path: PathBuf,
        /// Its text has the cause already, so it is no source.
        error: fs::error::Error,
    },
}

impl CgroupError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Path(_) => ErrorKind::InvalidArgument,
            Self::Fs { .. } => ErrorKind::Internal,
        }
    }
}

/// The path below a hierarchy's root that a spec's `cgroupsPath` means:
/// a path, or systemd's `slice:prefix:name`.
pub(crate) fn relative_path(spec: &str) -> Result<PathBuf, CgroupError> {
    let refused = || CgroupError::Path(spec.chars().take(200).collect());
    let path = match spec.split(':').collect::<Vec<_>>()[..] {
        [slice, prefix, name] => systemd_path(slice, prefix, name).ok_or_else(refused)?,
        _ => PathBuf::from(spec),
    };
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => relative.push(name),
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    if relative.as_os_str().is_empty() || spec.contains('\0') {
        return Err(refused());
    }
    Ok(relative)
}

/// `a-b.slice` lives in `a.slice`; the unit is `prefix-name.scope`, or the
/// name alone when that is a slice.
fn systemd_path(slice: &str, prefix: &str, name: &str) -> Option<PathBuf> {
    if [slice, prefix, name].iter().any(|part| part.contains('/')) || name.is_empty() {
        return None;
    }
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice")?;
    let mut path = PathBuf::new();
    if stem != "-" {
        for (at, _) in stem.match_indices('-') {
            path.push(format!("{}.slice", &stem[..at]));
        }
        path.push(slice);
    }
    let unit = match (name.ends_with(".slice"), prefix.is_empty()) {
        (true, _) => name.to_owned(),
        (false, true) => format!("{name}.scope"),
        (false, false) => format!("{prefix}-{name}.scope"),
    };
    path.push(unit);
    Some(path)
}

/// The cgroup of one pod, in every hierarchy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cgroup {
    /// None where the pod runs without one.
    group: Option<Arc<fs::Cgroup>>,
    /// Directories that were created for it, parents first.
    created: Vec<PathBuf>,
}

impl Cgroup {
    /// Creates it: all hierarchies of version 1, or the one of version 2 with its
    /// controllers enabled in the parents.
    pub fn create(path: &Path) -> Result<Self, CgroupError> {
        let group = fs::Cgroup::load(hierarchies::auto(), path);
        let mut created = Vec::new();
        for tries in 1.. {
            let missing = missing(&group, path);
            let result = group.create();
            for dir in missing.into_iter().filter(|dir| dir.exists()) {
                mark(&dir);
                if !created.contains(&dir) {
                    created.push(dir);
                }
            }
            match result {
                Ok(()) => break,
                Err(error) if tries < MAX_TRIES && parent_vanished(&error) => {}
                Err(error) => {
                    remove_created(&created);
                    return Err(CgroupError::Fs { what: "create", path: path.into(), error });
                }
            }
        }
        Ok(Self { group: Some(Arc::new(group)), created })
    }

    /// Directories that [`remove_created`] removes, parents first.
    pub fn created(&self) -> &[PathBuf] {
        &self.created
    }

    /// Moves a process into it.
    pub fn join(&self, pid: u32) -> Result<(), CgroupError> {
        let Some(group) = &self.group else { return Ok(()) };
        group.add_task_by_tgid(CgroupPid::from(u64::from(pid))).map_err(|error| CgroupError::Fs {
            what: "move a process into",
            path: group.path().into(),
            error,
        })
    }

    /// Removes what was created for it, once its processes are gone.
    pub fn remove(&self) {
        remove_created(&self.created);
    }
}

/// The directories on the way to a cgroup that do not exist, parents first.
fn missing(group: &fs::Cgroup, path: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = directories(group)
        .iter()
        .flat_map(|leaf| leaf.ancestors().take(path.components().count()))
        .filter(|dir| !dir.exists())
        .map(Path::to_owned)
        .collect();
    missing.sort_unstable();
    missing
}

/// The directory of a cgroup in each hierarchy.
fn directories(group: &fs::Cgroup) -> BTreeSet<PathBuf> {
    let all = group.subsystems().iter();
    all.map(|subsystem| subsystem.to_controller().path().to_owned()).collect()
}

/// The mount points of the hierarchies.
fn roots() -> BTreeSet<PathBuf> {
    directories(&fs::Cgroup::load(hierarchies::auto(), ""))
}

fn parent_vanished(error: &fs::error::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}

fn mark(dir: &Path) {
    if let Err(error) = setxattr(dir, MARK, b"made", XattrFlags::empty()) {
        tracing::debug!("cannot mark the cgroup {}: {error}", dir.display());
    }
}

fn is_marked(dir: &Path) -> bool {
    getxattr(dir, MARK, &mut [0; 16]).is_ok()
}

/// True for a directory of a cgroup file system: no other is read or removed
/// here, whatever a state file names.
fn is_cgroup(path: &Path, roots: &BTreeSet<PathBuf>) -> bool {
    let climbs = path.components().any(|c| c == Component::ParentDir);
    !climbs && roots.iter().any(|root| path.starts_with(root) && path != root)
}

/// Pids in the deepest of the directories that were created.
pub(crate) fn members(created: &[PathBuf]) -> Vec<u32> {
    let roots = roots();
    let own = created.iter().filter(|dir| is_cgroup(dir, &roots));
    let deepest = own.filter(|dir| !created.iter().any(|d| d != *dir && d.starts_with(dir)));
    let mut pids: Vec<u32> = deepest
        .filter_map(|dir| std::fs::read_to_string(dir.join("cgroup.procs")).ok())
        .flat_map(|procs| procs.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Removes cgroups that were created for a pod, deepest first, and the parents
/// that other pods created and use no longer. Parents in use stay, and those that
/// no pod created.
pub(crate) fn remove_created(created: &[PathBuf]) {
    let roots = roots();
    let end = Instant::now() + REMOVAL;
    let own = created.iter().filter(|dir| is_cgroup(dir, &roots));
    for leaf in own.filter(|dir| !created.iter().any(|d| d != *dir && d.starts_with(dir))) {
        remove_leaf(leaf, end);
        let parents = leaf.ancestors().skip(1).take_while(|dir| is_cgroup(dir, &roots));
        for dir in parents.filter(|dir| created.contains(&dir.to_path_buf()) || is_marked(dir)) {
            // Another pod's too, which removes it in its turn.
            let _ = std::fs::remove_dir(dir);
        }
    }
}

fn remove_leaf(dir: &Path, end: Instant) {
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            // The last process is still on its way out.
            Err(error) if Instant::now() >= end => {
                tracing::warn!("cannot remove the cgroup {}: {error}", dir.display());
                return;
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests;
