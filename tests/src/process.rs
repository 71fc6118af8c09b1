//! Processes of this machine, as /proc shows them.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process, with its start time, so that a pid used again is no mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its parent's pid.
    pub parent: i32,
    /// The state letter: R, S, D, Z, …
    pub state: char,
    /// Clock ticks from boot to its start.
    pub started: u64,
}

impl Process {
    /// The process with this pid, if there is one.
    pub fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let after_name = stat.rsplit_once(") ")?.1;
        let fields: Vec<&str> = after_name.split(' ').collect();
        Some(Self {
            pid,
            state: fields[0].chars().next()?,
            parent: fields[1].parse().ok()?,
            started: fields[19].parse().ok()?,
        })
    }

    /// Every process there is.
    pub fn all() -> Vec<Self> {
        let names =
            fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().into_string().ok());
        names.filter_map(|name| Self::read(name.parse().ok()?)).collect()
    }

    /// Everything that descends from `ancestor`, which adopts orphans if it
    /// is a subreaper.
    pub fn below(ancestor: i32) -> Vec<Self> {
        let all = Self::all();
        let mut found: Vec<Self> = vec![];
        let mut parents = vec![ancestor];
        while let Some(parent) = parents.pop() {
            for process in all.iter().filter(|p| p.parent == parent) {
                parents.push(process.pid);
                found.push(process.clone());
            }
        }
        found
    }

    /// Whether this very process has not ended yet.
    pub fn lives(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started && now.state != 'Z')
    }

    /// Its arguments; empty for a zombie.
    pub fn arguments(&self) -> Vec<String> {
        let bytes = fs::read(self.path("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    /// Its environment, `NAME=value` each.
    pub fn environment(&self) -> Vec<String> {
        let bytes = fs::read(self.path("environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    /// Base name of its program.
    pub fn program(&self) -> String {
        let link = fs::read_link(self.path("exe")).unwrap_or_default();
        link.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A file of it in /proc.
    pub fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid))
    }

    /// A numeric field of `/proc/<pid>/status` or `smaps_rollup`, in its unit there.
    pub fn field(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.path(file)).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Number of its open file descriptors.
    pub fn open_files(&self) -> usize {
        fs::read_dir(self.path("fd")).map_or(0, Iterator::count)
    }

    /// Sends it SIGKILL.
    pub fn kill(&self) {
        kill(Pid::from_raw(self.pid), Signal::SIGKILL).unwrap();
    }
}
