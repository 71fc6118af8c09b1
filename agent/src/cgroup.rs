//! A container's cgroup (v2).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::time::timeout;

use crate::readiness;
use crate::signal;

/// Where the hierarchy is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// How long the kernel may take to end killed processes. Only one that hangs
/// in the kernel, as on a dead share, takes longer, and Delete reports it.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long processes may take to stop. One that hangs in the kernel does not.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);

/// Deepest nesting that is walked. A container may make cgroups below its own
/// without bound; deeper ones are an attempt to exhaust the agent's stack.
const MAX_DEPTH: usize = 64;

/// A cgroup could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("cgroup {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("processes in cgroup {path} did not stop within {FREEZE_TIMEOUT:?}")]
    NotFrozen { path: PathBuf },
    #[error("processes in cgroup {path} did not end within {KILL_TIMEOUT:?} of SIGKILL")]
    Busy { path: PathBuf },
}

/// A cgroup of a container. Dropping it leaves the cgroup there.
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: PathBuf,
}

/// Hands every controller that the kernel has down to the containers.
pub fn delegate() -> Result<(), CgroupError> {
    let root = Path::new(ROOT);
    let available = read(&root.join("cgroup.controllers"))?;
    let all: Vec<String> = available.split_whitespace().map(|c| format!("+{c}")).collect();
    write(&root.join("cgroup.subtree_control"), &all.join(" "))
}

impl Cgroup {
    /// The name of the cgroup of container `id`: never that of a file of the
    /// parent cgroup, such as `memory.max`, which is a lawful id.
    pub fn name(id: &str) -> String {
        format!("container-{id}")
    }

    /// Makes the cgroup of container `id`.
    pub fn create(id: &str) -> Result<Self, CgroupError> {
        let path = Path::new(ROOT).join(Self::name(id));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self { path }),
            Err(source) => Err(CgroupError::Io { path, source }),
        }
    }

    /// The cgroup in this directory.
    #[cfg(test)]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Kills every process in it, however fast they fork.
    pub fn kill(&self) -> Result<(), CgroupError> {
        write(&self.path.join("cgroup.kill"), "1")
    }

    /// Sends `number` to every process in it. SIGKILL goes to all at once.
    pub fn signal(&self, number: u32) -> Result<(), CgroupError> {
        if number == signal::SIGKILL {
            return self.kill();
        }
        for pid in self.pids()? {
            // A process may have ended meanwhile, which is no failure.
            let _ = signal::send(pid, number);
        }
        Ok(())
    }

    /// The processes in it and below it.
    pub fn pids(&self) -> Result<Vec<Pid>, CgroupError> {
        let mut pids = Vec::new();
        self.walk(&mut |path| {
            let file = path.join("cgroup.procs");
            match fs::read_to_string(&file) {
                Ok(text) => pids.extend(text.lines().filter_map(parse_pid)),
                // A threaded cgroup lists its processes at its root only.
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CgroupError::Io { path: file, source }),
            }
            Ok(())
        })?;
        Ok(pids)
    }

    /// Stops every process in it. After a failure they go on.
    pub async fn freeze(&self) -> Result<(), CgroupError> {
        let file = self.path.join("cgroup.freeze");
        write(&file, "1")?;
        match timeout(FREEZE_TIMEOUT, self.until("frozen 1")).await {
            Ok(frozen) => frozen,
            Err(_) => {
                write(&file, "0")?;
                Err(CgroupError::NotFrozen { path: self.path.clone() })
            }
        }
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        write(&self.path.join("cgroup.freeze"), "0")
    }

    /// What one of its files holds; none if the kernel has no such file.
    pub fn read(&self, file: &str) -> Option<String> {
        read(&self.path.join(file)).ok()
    }

    /// Writes `values` to its files, all of them or none.
    pub fn set(&self, values: &[(String, String)]) -> Result<(), CgroupError> {
        let mut before: Vec<(PathBuf, String)> = Vec::new();
        for (file, value) in values {
            let path = self.path.join(file);
            let old = read(&path)?;
            if let Err(error) = write(&path, value) {
                for (path, old) in before.iter().rev() {
                    // It held this a moment ago.
                    let _ = write(path, old);
                }
                return Err(error);
            }
            before.push((path, old));
        }
        Ok(())
    }

    /// Whether the kernel's OOM killer ended a process in it.
    pub fn oom_killed(&self) -> bool {
        self.oom_kills() > 0
    }

    /// Ends what runs in it, and removes it with everything below it.
    pub async fn remove(&self) -> Result<(), CgroupError> {
        if !self.path.exists() {
            return Ok(());
        }
        self.kill()?;
        match timeout(KILL_TIMEOUT, self.until("populated 0")).await {
            Ok(emptied) => emptied?,
            Err(_) => return Err(CgroupError::Busy { path: self.path.clone() }),
        }
        self.walk(&mut |path| {
            fs::remove_dir(path).map_err(|source| CgroupError::Io { path: path.to_owned(), source })
        })
    }

    /// Returns when `cgroup.events` has this line. The kernel raises a priority
    /// event on it at each change.
    async fn until(&self, line: &str) -> Result<(), CgroupError> {
        let has = |text: &str| text.lines().any(|found| found == line).then_some(());
        self.watch("cgroup.events", has).await
    }

    /// Returns the number of processes in it that the kernel's OOM killer has
    /// ended, once it is not `seen`.
    pub async fn oom_kills_other_than(&self, seen: u64) -> Result<u64, CgroupError> {
        let other = |text: &str| Some(oom_kills(text)).filter(|count| *count != seen);
        self.watch("memory.events", other).await
    }

    /// The number of them now.
    pub fn oom_kills(&self) -> u64 {
        self.read("memory.events").map_or(0, |text| oom_kills(&text))
    }

    /// Returns what `find` finds in a file of events, now or after a change.
    async fn watch<T>(
        &self,
        file: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T, CgroupError> {
        let path = self.path.join(file);
        let failed = |source| CgroupError::Io { path: path.clone(), source };
        let file = fs::File::open(&path).map_err(failed)?;
        let file = readiness::watch(file.into(), Interest::PRIORITY).map_err(failed)?;
        loop {
            let mut text = [0; 256];
            let length = rustix::io::pread(file.get_ref(), &mut text, 0)
                .map_err(|errno| failed(errno.into()))?;
            if let Some(found) = find(&String::from_utf8_lossy(&text[..length])) {
                return Ok(found);
            }
            file.ready(Interest::PRIORITY).await.map_err(failed)?.clear_ready();
        }
    }

    /// Calls `f` on every cgroup of the tree, children before their parent.
    fn walk(&self, f: &mut dyn FnMut(&Path) -> Result<(), CgroupError>) -> Result<(), CgroupError> {
        walk(&self.path, MAX_DEPTH, f)
    }
}

fn walk(
    path: &Path,
    depth: usize,
    f: &mut dyn FnMut(&Path) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::Io { path: path.to_owned(), source };
    if depth == 0 {
        return Err(failed(io::Error::other("nested too deeply")));
    }
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), depth - 1, f)?;
        }
    }
    f(path)
}

fn parse_pid(line: &str) -> Option<Pid> {
    line.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw)
}

/// The `oom_kill` count of a `memory.events`.
fn oom_kills(text: &str) -> u64 {
    let count = |line: &str| line.strip_prefix("oom_kill ").and_then(|n| n.parse().ok());
    text.lines().find_map(count).unwrap_or(0)
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::Io { path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    fs::write(path, text).map_err(|source| CgroupError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
