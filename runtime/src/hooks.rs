//! OCI hooks that run on the host: `prestart`, `createRuntime`,
//! `createContainer`, `poststart` and `poststop`.
//!
//! The specification runs `createContainer` in the container's namespaces with
//! a program of the host. The guest's kernel has those namespaces, so the hook
//! runs after `createRuntime` and in the same place, with a pid in the pod's
//! network namespace. `startContainer` is a program of the container and runs
//! in the guest.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use oci_spec::runtime::{Hook, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::json;

use crate::bundle;
use crate::file::write_atomically;

/// Timeout of a hook that has none: a hook that hangs must not hang containerd
/// for ever.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// `PATH` of a hook without an environment, if the shim has none. runc passes
/// such a hook its whole environment; the shim's has nothing else for a hook.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most bytes of a hook's output in an error.
const MAX_OUTPUT: usize = 2048;

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
#[error("the {phase} hook {path} {what}{words}", path = path.display())]
pub struct HookError {
    phase: &'static str,
    path: PathBuf,
    what: String,
    words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The namespaces are there, and no process of the container.
    Create,
    /// The first process runs.
    Poststart,
    /// The container is deleted.
    Poststop,
}

/// The hooks of a container and the state that they read.
#[derive(Clone, Debug)]
pub(crate) struct Hooks {
    container: String,
    bundle: PathBuf,
    annotations: serde_json::Value,
    version: String,
    create: Vec<(&'static str, Hook)>,
    poststart: Vec<(&'static str, Hook)>,
    poststop: Vec<(&'static str, Hook)>,
}

impl Hooks {
    /// Those of a spec.
    pub fn of(spec: &Spec, container: &str, bundle: &Path) -> Self {
        let hooks = spec.hooks().clone().unwrap_or_default();
        // Old engines still write them.
        #[allow(deprecated)]
        let prestart = hooks.prestart().clone();
        let named = |phase: &'static str, hooks: &Option<Vec<Hook>>| {
            let hooks = hooks.clone().unwrap_or_default();
            hooks.into_iter().map(|hook| (phase, hook)).collect::<Vec<_>>()
        };
        let mut create = named("prestart", &prestart);
        create.extend(named("createRuntime", hooks.create_runtime()));
        create.extend(named("createContainer", hooks.create_container()));
        Self {
            container: container.to_owned(),
            bundle: bundle.to_owned(),
            annotations: json!(spec.annotations()),
            version: spec.version().clone(),
            create,
            poststart: named("poststart", hooks.poststart()),
            poststop: named("poststop", hooks.poststop()),
        }
    }

    /// Whether any are of this phase.
    pub fn has(&self, phase: Phase) -> bool {
        !self.of_phase(phase).is_empty()
    }

    /// The container.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Its bundle.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    fn of_phase(&self, phase: Phase) -> &[(&'static str, Hook)] {
        match phase {
            Phase::Create => &self.create,
            Phase::Poststart => &self.poststart,
            Phase::Poststop => &self.poststop,
        }
    }

    /// Runs those of a phase one after the other and ends with the first that
    /// fails; after the container's end all are run. `pid` is a process in the
    /// pod's network namespace, 0 when there is none any more; `most` bounds
    /// each. Blocks.
    pub fn run(&self, phase: Phase, pid: u32, most: Option<Duration>) -> Result<(), HookError> {
        let state = self.state(phase, pid);
        let mut outcome = Ok(());
        for (name, hook) in self.of_phase(phase) {
            let ran = self.run_one(name, hook, &state, most);
            match (&ran, phase) {
                (Err(_), Phase::Create) => return ran,
                (Err(error), _) => tracing::warn!("container {}: {error}", self.container),
                (Ok(()), _) => {}
            }
            outcome = outcome.and(ran);
        }
        outcome
    }

    /// The state of the container (OCI runtime-spec, "State").
    fn state(&self, phase: Phase, pid: u32) -> Vec<u8> {
        let status = match phase {
            Phase::Create => "creating",
            Phase::Poststart => "running",
            Phase::Poststop => "stopped",
        };
        let state = json!({
            "ociVersion": self.version,
            "id": self.container,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        });
        state.to_string().into_bytes()
    }

    fn run_one(
        &self,
        phase: &'static str,
        hook: &Hook,
        state: &[u8],
        most: Option<Duration>,
    ) -> Result<(), HookError> {
        let given = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
        let own = given.filter(|seconds| *seconds > 0).map_or(LIMIT, Duration::from_secs);
        let limit = most.map_or(own, |most| own.min(most));
        let failed = |what: String, words: String| HookError {
            phase,
            path: hook.path().clone(),
            what,
            words,
        };
        let broken = |error: io::Error| failed(format!("cannot be run: {error}"), String::new());
        let mut output = memory("hook output", &[]).map_err(broken)?;
        let mut child = self.start(hook, state, &output).map_err(broken)?;
        let ended = wait(&mut child, limit).map_err(broken)?;
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(failed(describe(status), words(&mut output))),
            None => {
                let what = format!("did not end within {} s and was killed", limit.as_secs());
                Err(failed(what, words(&mut output)))
            }
        }
    }

    /// Input and output are files in memory: a hook that leaves a process behind,
    /// or reads nothing, cannot block the shim.
    fn start(&self, hook: &Hook, state: &[u8], output: &File) -> io::Result<Child> {
        let args = hook.args().clone().unwrap_or_default();
        let mut command = Command::new(hook.path());
        if let Some(name) = args.first() {
            command.arg0(name);
        }
        command.env_clear();
        match hook.env() {
            Some(env) => command.envs(env.iter().filter_map(|pair| pair.split_once('='))),
            None => command.env("PATH", env::var_os("PATH").unwrap_or(DEFAULT_PATH.into())),
        };
        command
            .args(args.iter().skip(1))
            .current_dir(&self.bundle)
            .process_group(0)
            .stdin(memory("hook state", state)?)
            .stdout(output.try_clone()?)
            .stderr(Stdio::from(output.try_clone()?));
        command.spawn()
    }
}

/// Marks a container whose hooks ran, for the cleanup after a dead shim: a file
/// with the path of its bundle.
#[derive(Debug)]
pub(crate) struct Marker(PathBuf);

impl Marker {
    /// Marks a container in `dir`.
    pub fn set(dir: &Path, container: &str, bundle: &Path) -> io::Result<Self> {
        let path = dir.join(container);
        let bundle = bundle.canonicalize()?;
        write_atomically(&path, bundle.as_os_str().as_bytes())?;
        Ok(Self(path))
    }

    /// The poststop hooks have run.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs the `poststop` hooks of every container that is marked in `dir`, each
/// for at most `most`. Blocks.
pub(crate) fn finish_all(dir: &Path, most: Duration) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let container = entry.file_name().to_string_lossy().into_owned();
        let marker = Marker(entry.path());
        let bundle = fs::read(&marker.0).map(|path| PathBuf::from(OsString::from_vec(path)));
        match bundle.map(|bundle| (bundle::read(&bundle), bundle)) {
            Ok((Ok(spec), bundle)) => {
                // What fails is logged.
                let _ = Hooks::of(&spec, &container, &bundle).run(Phase::Poststop, 0, Some(most));
            }
            _ => tracing::warn!("cannot read the poststop hooks of container {container}"),
        }
        marker.remove();
    }
}

fn memory(name: &str, content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// Waits; kills the hook and what it started in its group when the time is up.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    let ended = loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            ended => break ended? > 0,
        }
    };
    if !ended {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let status = child.wait()?;
    Ok(ended.then_some(status))
}

fn words(output: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = output
        .seek(SeekFrom::Start(0))
        .and_then(|_| Read::by_ref(output).take(MAX_OUTPUT as u64).read_to_end(&mut bytes));
    match read {
        Ok(length) if length > 0 => {
            format!(": {}", String::from_utf8_lossy(&bytes).trim_end().escape_default())
        }
        _ => String::new(),
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, signal) => format!("was killed by signal {}", signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
