//! One container of a pod.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::exec::Execs;
use super::hooked::Hooked;
use super::host_side::HostSide;
use crate::agent::Agent;
use crate::container::{ContainerState, CreateContainer, Status};
use crate::end::EndSignal;
use crate::error::Error;
use crate::event::{Exit, PodEvent};
use crate::stdio::Streams;

/// Exit status of a process whose sandbox ended: that of SIGKILL.
const KILLED: u32 = 128 + 9;

/// How often it is told at most that processes are ended for their memory
/// limit: a container may have that happen to it without end.
const OOM_PACE: Duration = Duration::from_secs(1);

/// A container from the moment that the agent made it until it is deleted.
pub(super) struct Member {
    pub created: CreateContainer,
    pub pid: u32,
    pub streams: Streams,
    pub execs: Execs,
    /// Held by start and delete, one at a time. An exit is told after the
    /// start that it follows.
    pub turn: tokio::sync::Mutex<()>,
    started: AtomicBool,
    paused: AtomicBool,
    /// What its cgroup held when it was last asked.
    used: Mutex<HashMap<String, String>>,
    deleted: AtomicBool,
    exit: watch::Sender<Option<Exit>>,
    /// Whether it was told that a process of it was ended for its memory limit.
    oom_told: Mutex<bool>,
    host: Mutex<Option<HostSide>>,
    pub hooks: Hooked,
}

impl Member {
    pub fn new(
        created: CreateContainer,
        pid: u32,
        streams: Streams,
        host: HostSide,
        hooks: Hooked,
    ) -> Self {
        Self {
            created,
            pid,
            streams,
            execs: Execs::default(),
            turn: tokio::sync::Mutex::default(),
            started: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            used: Mutex::default(),
            deleted: AtomicBool::new(false),
            exit: watch::Sender::new(None),
            oom_told: Mutex::default(),
            host: Mutex::new(Some(host)),
            hooks,
        }
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Answers when it has ended.
    pub async fn wait(&self) -> Exit {
        let mut receiver = self.exit.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or_else(killed),
            Err(_) => killed(),
        }
    }

    /// Says how it ended. False when that is known already.
    pub fn finish(&self, exit: Exit) -> bool {
        self.exit.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(exit);
            }
            first
        })
    }

    /// Where it is in its life; answers at once.
    pub fn status(&self) -> Status {
        match (self.exit(), self.started.load(Ordering::Relaxed)) {
            (Some(_), _) => Status::Stopped,
            (None, true) if self.paused.load(Ordering::Relaxed) => Status::Paused,
            (None, true) => Status::Running,
            (None, false) => Status::Created,
        }
    }

    pub fn state(&self) -> ContainerState {
        let status = self.status();
        ContainerState { created: self.created.clone(), pid: self.pid, status, exit: self.exit() }
    }

    /// Its first process was let run.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Its processes were stopped, or let go on.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Keeps what its cgroup holds.
    pub fn keep_used(&self, files: &HashMap<String, String>) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone_from(files);
    }

    /// What it held when it was last asked.
    pub fn last_used(&self) -> HashMap<String, String> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is gone; who waits for its turn finds out.
    pub fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }

    /// Refuses what needs another state, or a container at all. For those
    /// who hold the turn.
    pub fn check(
        &self,
        fits: impl FnOnce(Status) -> bool,
        must: &'static str,
    ) -> Result<(), Error> {
        if self.deleted.load(Ordering::Relaxed) {
            return Err(Error::NoContainer(self.created.id.clone()));
        }
        let is = self.status();
        if fits(is) {
            return Ok(());
        }
        Err(Error::WrongState { container: self.created.id.clone(), is: is.as_str(), must })
    }

    /// Lets go of what it has on the host.
    pub fn release(&self) {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The exit of a process whose sandbox ended now.
pub(super) fn killed() -> Exit {
    Exit { status: KILLED, at: SystemTime::now() }
}

/// Waits for a container's end and tells of it.
pub(super) async fn watch_exit(
    member: Arc<Member>,
    agent: Agent,
    ended: EndSignal,
    events: mpsc::UnboundedSender<PodEvent>,
) {
    let id = member.created.id.clone();
    let outcome = tokio::select! {
        outcome = agent.wait(&id, "") => outcome,
        _ = ended.wait() => return told(&member, killed(), false, &events).await,
    };
    match outcome {
        Ok(guest) => told(&member, guest.exit, guest.oom_killed, &events).await,
        Err(error) => {
            // The connection's end is the sandbox's; what else is answered is
            // a broken agent's, and the container cannot be told from a dead one.
            if let crate::agent::AgentError::Lost { .. } = error {
                ended.wait().await;
            } else {
                tracing::error!("the agent cannot wait for container {id}: {error}");
            }
            told(&member, killed(), false, &events).await;
        }
    }
}

/// Tells at once when a process of a container is ended for its memory limit,
/// which need not be its first.
pub(super) async fn watch_oom(
    member: Arc<Member>,
    agent: Agent,
    ended: EndSignal,
    events: mpsc::UnboundedSender<PodEvent>,
) {
    let container = &member.created.id;
    let mut seen = 0;
    loop {
        let count = tokio::select! {
            count = agent.oom_kills(container, seen) => count,
            _ = ended.wait() => return,
        };
        let Ok(count) = count else { return };
        {
            let mut told = member.oom_told.lock().unwrap_or_else(PoisonError::into_inner);
            // From the exit on that alone tells, if nothing was told before.
            if count <= seen || member.exit().is_some() {
                return;
            }
            *told = true;
            let _ = events.send(PodEvent::Oom { container: container.clone() });
        }
        seen = count;
        sleep(OOM_PACE).await;
    }
}

async fn told(member: &Member, exit: Exit, oom: bool, events: &mpsc::UnboundedSender<PodEvent>) {
    if !member.finish(exit) {
        return;
    }
    member.execs.ended(events).await;
    // A start that is under way is answered first.
    let _turn = member.turn.lock().await;
    let container = member.created.id.clone();
    let oom_told = *member.oom_told.lock().unwrap_or_else(PoisonError::into_inner);
    if oom && !oom_told {
        let _ = events.send(PodEvent::Oom { container: container.clone() });
    }
    let exec = String::new();
    let _ = events.send(PodEvent::Exit { container, exec, pid: member.pid, exit });
}
