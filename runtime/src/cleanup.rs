//! Removal of a pod whose shim died.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::cgroup;
use crate::config::Config;
use crate::hooks;
use crate::id::PodId;
use crate::pod_directory::{PodDirectory, PodDirectoryError};
use crate::process::ProcessId;
use crate::state::State;

/// How long killed processes may take to end; `delete` as a whole has 5
/// seconds.
const ENDING: Duration = Duration::from_secs(2);

/// Timeout of each poststop hook.
const HOOKS: Duration = Duration::from_secs(2);

/// Removes what is left of a pod whose shim died: processes, mounts, cgroup,
/// directory. An absent pod is no error. A living shim is killed first, if
/// the pod was started for `bundle`; a pod of another bundle is left as is: it
/// belongs to another containerd.
pub fn cleanup(config: &Config, id: &PodId, bundle: &Path) -> Result<(), PodDirectoryError> {
    let path = config.state_dir.join(id.directory());
    let state = State::read(&path.join("state.json")).ok().filter(|state| is_of(state, id));
    if let Some(state) = &state {
        if state.is_running() && !is_same(&state.pod.bundle, bundle) {
            tracing::info!(
                "sandbox {id} runs for the bundle {}: left as is",
                state.pod.bundle.display()
            );
            return Ok(());
        }
        kill_shim(state);
    }
    match PodDirectory::open(path)? {
        Some(directory) => remove_locked(directory, id),
        None => Ok(()),
    }
}

/// Either may be relative, or gone by now.
fn is_same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole(a) == whole(b)
}

/// Removes everything of a pod whose directory is locked by this process.
pub(crate) fn remove_locked(directory: PodDirectory, id: &PodId) -> Result<(), PodDirectoryError> {
    match State::read(&directory.state()) {
        Ok(state) if is_of(&state, id) => end_processes(&state),
        Ok(state) => {
            tracing::warn!("{} is of sandbox {}", directory.state().display(), state.pod.id)
        }
        // The shim's death ends processes that the state does not list yet.
        Err(error) => tracing::warn!("cannot read {}: {error}", directory.state().display()),
    }
    hooks::finish_all(&directory.hooks(), HOOKS);
    directory.remove()
}

fn is_of(state: &State, id: &PodId) -> bool {
    state.pod.namespace == id.namespace() && state.pod.id == id.id()
}

fn kill_shim(state: &State) {
    let me = std::process::id();
    let shim = state.processes.first().map(|member| member.process);
    kill_all(shim.into_iter().filter(|shim| shim.pid != me));
}

fn end_processes(state: &State) {
    let me = std::process::id();
    let listed = state.processes.iter().map(|member| member.process);
    let found = cgroup::members(&state.cgroups);
    let found = found.into_iter().filter_map(|pid| ProcessId::of(pid).ok());
    kill_all(listed.chain(found).filter(|process| process.pid != me));
    cgroup::remove_created(&state.cgroups);
}

/// Kills those that are there still, and waits until they have ended.
fn kill_all(processes: impl Iterator<Item = ProcessId>) {
    let open: Vec<OwnedFd> = processes.filter_map(ProcessId::open).collect();
    for process in &open {
        // Only ESRCH can come, for one that ended by itself.
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
    let end = Instant::now() + ENDING;
    for process in &open {
        let left = end.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&wait)) {
            Ok(n) if n > 0 => {}
            other => tracing::warn!("a killed process has not ended: {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
