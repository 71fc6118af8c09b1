//! The pod's cgroup on the host, on hosts with cgroups v1, v2 or both.
//!
//! The pod's processes are put where `linux.cgroupsPath` says, so that what
//! the orchestrator limits and measures there is the whole sandbox. The
//! container's own limits hold inside the guest.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::failure::ErrorKind;
use crate::mounts::{MountError, MountTable};

/// How long the kernel may take to let go of a cgroup whose processes have
/// been killed; `delete` as a whole has 5 seconds.
const REMOVAL: Duration = Duration::from_secs(2);
/// Between two looks: version 1 tells nobody when a cgroup becomes empty.
const PAUSE: Duration = Duration::from_millis(5);
/// Extended attribute of every folder that a pod made. Who made a parent may
/// end before others that use it: the last of them removes it, and knows by
/// this that no one else's is taken.
const MARK: &str = "trusted.sandbox";
/// How often a parent may vanish under us, removed by another pod's end.
const MAX_TRIES: usize = 10;

/// A cgroup that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The path is not one.
    #[error("the cgroups path {0:?} is refused: it must not climb with '..' or hold NUL")]
    Path(String),
    /// A file or folder in a hierarchy.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The hierarchies cannot be found.
    #[error(transparent)]
    Mounts(#[from] MountError),
}

impl CgroupError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Path(_) => ErrorKind::InvalidArgument,
            _ => ErrorKind::Internal,
        }
    }
}

fn on<T>(what: &'static str, path: &Path, result: io::Result<T>) -> Result<T, CgroupError> {
    result.map_err(|source| CgroupError::Io { what, path: path.to_owned(), source })
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cgroup {
    /// The pod's folder in each hierarchy.
    leaves: Vec<PathBuf>,
    /// Folders that were made for it, parents first.
    created: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes it.
    pub fn create(path: &Path) -> Result<Self, CgroupError> {
        Self::create_in(&hierarchies(&MountTable::read()?), path)
    }

    fn create_in(roots: &[PathBuf], path: &Path) -> Result<Self, CgroupError> {
        let mut cgroup = Self::default();
        for root in roots {
            if let Err(error) = cgroup.make(root, path) {
                cgroup.remove();
                return Err(error);
            }
            cgroup.leaves.push(root.join(path));
        }
        Ok(cgroup)
    }

    fn make(&mut self, root: &Path, path: &Path) -> Result<(), CgroupError> {
        for _ in 0..MAX_TRIES {
            match self.make_once(root, path) {
                Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                }
                other => return other,
            }
        }
        self.make_once(root, path)
    }

    fn make_once(&mut self, root: &Path, path: &Path) -> Result<(), CgroupError> {
        let mut dir = root.to_owned();
        for name in path {
            let parent = dir.clone();
            dir.push(name);
            match fs::create_dir(&dir) {
                Ok(()) => {
                    mark(&dir);
                    inherit_cpuset(&parent, &dir);
                    if !self.created.contains(&dir) {
                        self.created.push(dir.clone());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return on("make the cgroup", &dir, Err(e)),
            }
        }
        Ok(())
    }

    /// Folders that [`remove_created`] takes, parents first.
    pub fn created(&self) -> &[PathBuf] {
        &self.created
    }

    /// Moves a process into it.
    pub fn join(&self, pid: u32) -> Result<(), CgroupError> {
        for leaf in &self.leaves {
            let procs = leaf.join("cgroup.procs");
            on("put a process into", &procs, fs::write(&procs, pid.to_string()))?;
        }
        Ok(())
    }

    /// Removes what was made for it, once its processes are gone.
    pub fn remove(&self) {
        remove_created(&self.created);
    }
}

/// A cpuset of version 1 takes no process until its CPUs and nodes are set.
/// Elsewhere these files do not exist.
fn inherit_cpuset(parent: &Path, dir: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read(parent.join(file))
            && fs::read(dir.join(file)).is_ok_and(|own| own.trim_ascii().is_empty())
            && let Err(error) = fs::write(dir.join(file), value)
        {
            tracing::debug!("cannot set {} in {}: {error}", file, dir.display());
        }
    }
}

/// The hierarchies that a pod's processes join: all of version 1, or the one
/// of version 2; with both, the one of version 2 carries no controller.
fn hierarchies(table: &MountTable) -> Vec<PathBuf> {
    let of = |kind: &str| -> Vec<PathBuf> {
        let entries = table.entries.iter().filter(|entry| entry.kind == kind);
        entries.map(|entry| entry.point.clone()).collect()
    };
    let mut roots = of("cgroup");
    if roots.is_empty() {
        roots = of("cgroup2");
        roots.truncate(1);
    }
    roots
}

fn mark(dir: &Path) {
    if let Err(error) = setxattr(dir, MARK, b"made", XattrFlags::empty()) {
        tracing::debug!("cannot mark the cgroup {}: {error}", dir.display());
    }
}

fn is_marked(dir: &Path) -> bool {
    getxattr(dir, MARK, &mut [0; 16]).is_ok()
}

/// Whether `path` is a folder of a cgroup file system: nothing else is looked
/// into or removed here, whatever a state file says.
fn is_cgroup(path: &Path, roots: &[PathBuf]) -> bool {
    let climbs = path.components().any(|c| c == Component::ParentDir);
    !climbs && roots.iter().any(|root| path.starts_with(root) && path != root)
}

/// Pids in the deepest of the folders that were made.
pub(crate) fn members(created: &[PathBuf]) -> Vec<u32> {
    let roots = MountTable::read().map(|table| hierarchies(&table)).unwrap_or_default();
    let own = created.iter().filter(|dir| is_cgroup(dir, &roots));
    let deepest = own.filter(|dir| !created.iter().any(|d| d != *dir && d.starts_with(dir)));
    let mut pids: Vec<u32> = deepest
        .filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok())
        .flat_map(|procs| procs.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Removes cgroups that were made for a pod, deepest first, and the parents
/// that other pods made and use no longer. Parents in use stay, and those that
/// no pod made.
pub(crate) fn remove_created(created: &[PathBuf]) {
    let roots = MountTable::read().map(|table| hierarchies(&table)).unwrap_or_default();
    let end = Instant::now() + REMOVAL;
    let own = created.iter().filter(|dir| is_cgroup(dir, &roots));
    for leaf in own.filter(|dir| !created.iter().any(|d| d != *dir && d.starts_with(dir))) {
        remove_leaf(leaf, end);
        let parents = leaf.ancestors().skip(1).take_while(|dir| is_cgroup(dir, &roots));
        for dir in parents.filter(|dir| created.contains(&dir.to_path_buf()) || is_marked(dir)) {
            // Another pod's too, which removes it in its turn.
            let _ = fs::remove_dir(dir);
        }
    }
}

fn remove_leaf(dir: &Path, end: Instant) {
    loop {
        match fs::remove_dir(dir) {
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
