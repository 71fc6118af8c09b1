//! The state file of a pod, for `sandboxctl` and for the cleanup.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::file::write_atomically;
use crate::process::ProcessId;

/// Version of the file's format.
const VERSION: u32 = 1;
/// Longest state file: a larger one is not ours.
const MAX_LEN: u64 = 1024 * 1024;

/// A process of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `shim`, `io`, `fs`, `kvm` or `qemu`.
    pub role: String,
    /// The process.
    #[serde(flatten)]
    pub process: ProcessId,
}

/// The part of the state that is known before any process starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// containerd's namespace.
    pub namespace: String,
    /// Id of the pod.
    pub id: String,
    /// The first container's bundle.
    pub bundle: PathBuf,
    /// `kvm` or `qemu`.
    pub engine: String,
    /// The reason for that engine.
    pub engine_reason: String,
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Seconds since 1970.
    pub started: u64,
    /// Origin of its network: `namespace`, `hooks`, `developer`, `host` or
    /// `loopback`.
    #[serde(default)]
    pub network: String,
}

/// The content of a pod's `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The pod.
    #[serde(flatten)]
    pub pod: Description,
    /// The shim first, then what it started.
    pub processes: Vec<Member>,
    /// cgroups that were made for it, deepest last.
    pub cgroups: Vec<PathBuf>,
}

impl State {
    pub(crate) fn new(pod: Description) -> Self {
        Self { version: VERSION, pod, processes: Vec::new(), cgroups: Vec::new() }
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        write_atomically(path, &json)
    }

    /// Reads a state file. A truncated or foreign file is an error.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(path)?.take(MAX_LEN).read_to_end(&mut text)?;
        let state: Self = serde_json::from_slice(&text).map_err(io::Error::other)?;
        if state.version != VERSION {
            return Err(io::Error::other(format!("unknown version {}", state.version)));
        }
        Ok(state)
    }

    /// Whether its shim runs.
    pub fn is_running(&self) -> bool {
        self.processes.first().is_some_and(|shim| shim.process.is_alive())
    }
}

/// The pods that have a readable state on this host, the oldest first.
pub fn list(config: &Config) -> io::Result<Vec<State>> {
    let entries = match std::fs::read_dir(&config.state_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut states: Vec<State> = entries
        .filter_map(|entry| State::read(&entry.ok()?.path().join("state.json")).ok())
        .collect();
    states.sort_by(|a, b| (a.pod.started, &a.pod.id).cmp(&(b.pod.started, &b.pod.id)));
    Ok(states)
}

#[cfg(test)]
mod tests;
