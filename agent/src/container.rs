//! A container: its first process, its cgroup and what is left of its creation.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cgroup::Cgroup;
use crate::create::Created;
use crate::error::CallError;
use crate::limits;
use crate::paths;
use crate::process::{Process, ProcessError};
use crate::reaper::exit_of;
use crate::rootfs::Rootfs;
use crate::signal::SIGKILL;
use crate::spec::ExecTemplate;

/// Most processes that were run in a container later and not deleted. Each
/// holds three pipes of the agent's.
pub const MAX_EXECS: usize = 256;

/// How far a container is. The end of its first process is not stored here
/// but asked of the process, so that the two cannot differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its first process waits to be started.
    Created,
    Running,
    /// None of its processes runs, until it is resumed.
    Paused,
    /// Its first process has ended.
    Stopped,
    /// It is being removed.
    Deleting,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created and not started",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Deleting => "being deleted",
        }
    }
}

pub struct Container {
    id: String,
    cgroup: Cgroup,
    init: Arc<Process>,
    template: ExecTemplate,
    /// Its root file system, if the agent assembled it.
    rootfs: tokio::sync::Mutex<Option<Rootfs>>,
    phase: Mutex<Phase>,
    /// Held by pause and resume, one at a time.
    pausing: tokio::sync::Mutex<()>,
    /// Kept here when the cgroup that knows it goes.
    oom_killed: AtomicBool,
    /// Processes that were run in it later, by exec id; none yet behind an id
    /// of a process that is being made.
    execs: Mutex<HashMap<String, Option<Arc<Process>>>>,
}

impl Container {
    /// A container whose first process has just been created. When that ends,
    /// everything else in the container does.
    pub fn new(id: &str, created: Created, template: ExecTemplate) -> Arc<Self> {
        let container = Arc::new(Self {
            id: id.to_owned(),
            cgroup: created.cgroup,
            init: Arc::new(created.init),
            template,
            rootfs: tokio::sync::Mutex::new(created.rootfs),
            phase: Mutex::new(Phase::Created),
            pausing: tokio::sync::Mutex::default(),
            oom_killed: AtomicBool::new(false),
            execs: Mutex::default(),
        });
        tokio::spawn(end_with_init(container.init.clone(), container.cgroup.clone()));
        container
    }

    /// What its execs start from.
    pub fn template(&self) -> &ExecTemplate {
        &self.template
    }

    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    pub fn init(&self) -> &Process {
        &self.init
    }

    /// The process of this exec id; the first one for an empty id.
    pub fn process(&self, exec_id: &str) -> Result<Arc<Process>, CallError> {
        if exec_id.is_empty() {
            return Ok(self.init.clone());
        }
        let unknown = || CallError::NoProcess { id: self.id.clone(), exec_id: exec_id.to_owned() };
        self.lock_execs().get(exec_id).cloned().flatten().ok_or_else(unknown)
    }

    /// Takes the exec id for a process that is about to be made. It is free
    /// again when the answer is dropped unfilled.
    pub fn reserve(self: &Arc<Self>, exec_id: &str) -> Result<Reserved, CallError> {
        self.still_runs()?;
        let (id, exec_id) = (self.id.clone(), exec_id.to_owned());
        let mut execs = self.lock_execs();
        if execs.contains_key(&exec_id) {
            return Err(CallError::ProcessExists { id, exec_id });
        }
        if execs.len() >= MAX_EXECS {
            return Err(CallError::TooManyProcesses { id, most: MAX_EXECS });
        }
        execs.insert(exec_id.clone(), None);
        Ok(Reserved { container: self.clone(), exec_id })
    }

    /// Refuses a container in which no process can be run any more.
    pub fn still_runs(&self) -> Result<(), CallError> {
        match self.phase() {
            Phase::Created | Phase::Running => Ok(()),
            other => Err(self.wrong_phase("run a process in", other)),
        }
    }

    /// Forgets a process that has ended.
    pub fn forget(&self, exec_id: &str) -> Result<(), CallError> {
        let process = self.process(exec_id)?;
        if exec_id.is_empty() || process.exited().is_none() {
            let (id, exec_id) = (self.id.clone(), exec_id.to_owned());
            return Err(CallError::ProcessRuns { id, exec_id });
        }
        self.lock_execs().remove(exec_id);
        Ok(())
    }

    fn lock_execs(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Process>>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.phase_of(&self.lock_phase())
    }

    /// Whether the kernel's OOM killer ended a process of it.
    pub fn oom_killed(&self) -> bool {
        self.oom_killed.load(Ordering::Relaxed) || self.cgroup.oom_killed()
    }

    /// Lets the first process go on to the program of the spec.
    pub fn start(&self) -> Result<(), CallError> {
        let mut phase = self.lock_phase();
        match self.phase_of(&phase) {
            Phase::Created => {}
            other => return Err(self.wrong_phase("start", other)),
        }
        self.notify().map_err(CallError::io("start the container"))?;
        *phase = Phase::Running;
        Ok(())
    }

    fn notify(&self) -> io::Result<()> {
        libcontainer::container::Container::load(paths::state(&self.id))
            .and_then(|mut container| container.start())
            .map_err(io::Error::other)
    }

    pub async fn pause(&self) -> Result<(), CallError> {
        let _turn = self.pausing.lock().await;
        match self.phase() {
            Phase::Running => {}
            other => return Err(self.wrong_phase("pause", other)),
        }
        self.cgroup.freeze().await?;
        let mut phase = self.lock_phase();
        if *phase == Phase::Running {
            *phase = Phase::Paused;
        }
        Ok(())
    }

    /// Lets them go on.
    pub async fn resume(&self) -> Result<(), CallError> {
        let _turn = self.pausing.lock().await;
        match self.phase() {
            Phase::Paused => {}
            other => return Err(self.wrong_phase("resume", other)),
        }
        self.cgroup.thaw()?;
        let mut phase = self.lock_phase();
        if *phase == Phase::Paused {
            *phase = Phase::Running;
        }
        Ok(())
    }

    pub fn update(&self, json: &[u8]) -> Result<(), CallError> {
        match self.phase() {
            Phase::Created | Phase::Running | Phase::Paused => {}
            other => return Err(self.wrong_phase("update", other)),
        }
        let limits = limits::of(json, &self.cgroup, limits::Guest::this())?;
        Ok(self.cgroup.set(&limits)?)
    }

    /// Sends a signal to a process, or to all that run in the container.
    pub fn kill(&self, exec_id: &str, number: u32, all: bool) -> Result<(), CallError> {
        let process = self.process(exec_id)?;
        if !all {
            return Ok(process.signal(number)?);
        }
        if process.exited().is_some() && self.cgroup.pids()?.is_empty() {
            return Err(ProcessError::Finished.into());
        }
        Ok(self.cgroup.signal(number)?)
    }

    /// Ends what runs in a container that was never started, and removes its
    /// cgroup and files. One that runs must be killed first.
    pub async fn delete(&self) -> Result<(), CallError> {
        let before = self.begin_delete()?;
        let removed = self.remove().await;
        if removed.is_err() {
            *self.lock_phase() = before;
        }
        removed
    }

    fn begin_delete(&self) -> Result<Phase, CallError> {
        let mut phase = self.lock_phase();
        match self.phase_of(&phase) {
            Phase::Created | Phase::Stopped => Ok(std::mem::replace(&mut *phase, Phase::Deleting)),
            other => Err(self.wrong_phase("delete", other)),
        }
    }

    async fn remove(&self) -> Result<(), CallError> {
        if self.init.exited().is_none() {
            // It may end by itself in between, which is as well.
            let _ = self.init.signal(SIGKILL);
        }
        self.oom_killed.store(self.oom_killed(), Ordering::Relaxed);
        self.cgroup.remove().await?;
        exit_of(self.init.exit()).await;
        if let Some(rootfs) = &mut *self.rootfs.lock().await {
            rootfs.remove().await?;
        }
        paths::remove(&self.id).map_err(CallError::io("remove the container's files"))
    }

    fn phase_of(&self, stored: &Phase) -> Phase {
        match stored {
            Phase::Created | Phase::Running | Phase::Paused if self.init.exited().is_some() => {
                Phase::Stopped
            }
            stored => *stored,
        }
    }

    fn wrong_phase(&self, action: &'static str, phase: Phase) -> CallError {
        CallError::Phase { action, id: self.id.clone(), phase: phase.as_str() }
    }

    fn lock_phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exec id that is taken by a process that is being made.
pub struct Reserved {
    container: Arc<Container>,
    exec_id: String,
}

impl Reserved {
    /// Puts the process that was made in its place. Answers with its number.
    pub fn fill(self, process: Process) -> u32 {
        let pid = process.pid();
        self.container.lock_execs().insert(self.exec_id.clone(), Some(Arc::new(process)));
        pid
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut execs = self.container.lock_execs();
        if execs.get(&self.exec_id).is_some_and(Option::is_none) {
            execs.remove(&self.exec_id);
        }
    }
}

/// A container without its own pid namespace outlives its first process
/// in the kernel's eyes, but not in containerd's.
async fn end_with_init(init: Arc<Process>, cgroup: Cgroup) {
    exit_of(init.exit()).await;
    // It may be deleted already.
    let _ = cgroup.kill();
}
