//! A process that is run in a container beside its first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::member::killed;
use crate::agent::{Agent, AgentError};
use crate::container::{ExecProcess, ProcessState, Status};
use crate::end::EndSignal;
use crate::error::Error;
use crate::event::{Exit, PodEvent};
use crate::stdio::Streams;

#[cfg(test)]
mod tests;

/// Most execs of a container that are not deleted: the agent's own bound.
const MAX_EXECS: usize = 256;

/// Exit status of an exec that could not be started, as of shells.
const NOT_STARTED: u32 = 127;

/// How long the end of a container waits for those of its execs, all in all:
/// the agent has killed them by then. Less than a Delete waits for it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Exec {
    pub asked: ExecProcess,
    /// Held by start and delete, one at a time. An exit is told after the
    /// start that it follows.
    pub turn: tokio::sync::Mutex<()>,
    pid: u32,
    /// Its number in the guest; 0 until it is started.
    guest_pid: AtomicU32,
    streams: OnceLock<Streams>,
    wishes: Mutex<Wishes>,
    exit: watch::Sender<Option<Exit>>,
    /// Its exit was told.
    told: watch::Sender<bool>,
    deleted: AtomicBool,
}

/// What was asked of a process before it began.
#[derive(Default)]
struct Wishes {
    /// Its input is to end.
    input_closed: bool,
    /// The size its terminal is to have.
    size: Option<(u32, u32)>,
}

impl Exec {
    fn new(asked: ExecProcess, pid: u32) -> Self {
        Self {
            asked,
            turn: tokio::sync::Mutex::default(),
            pid,
            guest_pid: AtomicU32::new(0),
            streams: OnceLock::new(),
            wishes: Mutex::default(),
            exit: watch::Sender::new(None),
            told: watch::Sender::new(false),
            deleted: AtomicBool::new(false),
        }
    }

    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    pub async fn wait(&self) -> Exit {
        let mut receiver = self.exit.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or_else(killed),
            Err(_) => killed(),
        }
    }

    /// Its number in the guest, while it is known.
    pub fn guest_pid(&self) -> Option<u32> {
        Some(self.guest_pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    pub fn status(&self) -> Status {
        match (self.exit(), self.guest_pid()) {
            (Some(_), _) => Status::Stopped,
            (None, Some(_)) => Status::Running,
            (None, None) => Status::Created,
        }
    }

    pub fn state(&self) -> ProcessState {
        let pid = self.guest_pid().map_or(0, |_| self.pid);
        let (status, exit) = (self.status(), self.exit());
        ProcessState { stdio: self.asked.stdio.clone(), pid, status, exit }
    }

    /// Refuses what needs another state, or a process at all.
    pub fn check(
        &self,
        fits: impl FnOnce(Status) -> bool,
        must: &'static str,
    ) -> Result<(), Error> {
        let (container, exec) = (self.asked.container.clone(), self.asked.id.clone());
        if self.deleted.load(Ordering::Relaxed) {
            return Err(Error::NoProcess { container, exec });
        }
        let is = self.status();
        if fits(is) {
            return Ok(());
        }
        Err(Error::WrongProcessState { container, exec, is: is.as_str(), must })
    }

    /// It runs, as `guest_pid`. Answers with the size that its terminal is to
    /// have.
    pub fn set_started(&self, guest_pid: u32, streams: Streams) -> Option<(u32, u32)> {
        let mut wishes = self.wishes();
        if wishes.input_closed {
            streams.close_stdin();
        }
        // Set once: it is started once.
        let _ = self.streams.set(streams);
        self.guest_pid.store(guest_pid.max(1), Ordering::Relaxed);
        wishes.size.take()
    }

    /// It could not be started: it has ended, and nothing is told of it.
    pub fn set_failed(&self) {
        self.finish(Exit { status: NOT_STARTED, at: SystemTime::now() });
    }

    /// Gives its input an end, now or when it begins.
    pub fn close_stdin(&self) {
        let mut wishes = self.wishes();
        match self.streams.get() {
            Some(streams) => streams.close_stdin(),
            None => wishes.input_closed = true,
        }
    }

    /// Keeps the size for a terminal that is not there yet; false if it is.
    pub fn keep_size(&self, width: u32, height: u32) -> bool {
        let mut wishes = self.wishes();
        let early = self.streams.get().is_none() && self.exit().is_none();
        if early {
            wishes.size = Some((width, height));
        }
        early
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers when all it wrote is with containerd.
    pub async fn drained(&self) {
        if let Some(streams) = self.streams.get() {
            streams.finish().await;
        }
    }

    /// Ends it for whoever waits. False when it has ended already.
    fn finish(&self, exit: Exit) -> bool {
        self.exit.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(exit);
            }
            first
        })
    }

    /// Answers when its exit was told, or at once if it does not run.
    pub async fn told(&self) {
        if self.guest_pid().is_some() {
            // The sender is its own, so it is there.
            let _ = self.told.subscribe().wait_for(|told| *told).await;
        }
    }

    async fn tell(&self, exit: Exit, events: &mpsc::UnboundedSender<PodEvent>) {
        if !self.finish(exit) {
            return;
        }
        // A start that is under way is answered first.
        let _turn = self.turn.lock().await;
        let (container, exec) = (self.asked.container.clone(), self.asked.id.clone());
        let _ = events.send(PodEvent::Exit { container, exec, pid: self.pid, exit });
        self.told.send_replace(true);
    }
}

/// The execs of one container, by id.
#[derive(Default)]
pub(super) struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

impl Execs {
    /// Adds one that is not started.
    pub fn add(&self, asked: ExecProcess, pid: u32) -> Result<(), Error> {
        let (container, exec) = (asked.container.clone(), asked.id.clone());
        let mut all = self.lock();
        if all.contains_key(&exec) {
            return Err(Error::ProcessExists { container, exec });
        }
        if all.len() >= MAX_EXECS {
            return Err(Error::TooManyProcesses { container, most: MAX_EXECS });
        }
        all.insert(exec, Arc::new(Exec::new(asked, pid)));
        Ok(())
    }

    pub fn get(&self, exec: &str) -> Option<Arc<Exec>> {
        self.lock().get(exec).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Exec>> {
        self.lock().values().cloned().collect()
    }

    /// It is gone, and so are those who wait for its end; who waits for its
    /// turn finds out. Answers with its exit.
    pub fn remove(&self, exec: &Exec) -> Exit {
        exec.deleted.store(true, Ordering::Relaxed);
        // One that never ran has not failed either.
        let unused = || Exit { status: 0, at: SystemTime::now() };
        let end = if exec.guest_pid().is_some() { killed() } else { unused() };
        exec.finish(end);
        self.lock().remove(&exec.asked.id);
        exec.exit().unwrap_or(end)
    }

    /// Answers when the exit of each that ran is told, so that the container's
    /// comes after them.
    pub async fn ended(&self, events: &mpsc::UnboundedSender<PodEvent>) {
        let all = self.all();
        let told = async {
            for exec in &all {
                // One that is about to run is not overtaken.
                drop(exec.turn.lock().await);
                exec.told().await;
            }
        };
        if timeout(LAST_WORDS, told).await.is_err() {
            for exec in all.iter().filter(|exec| exec.guest_pid().is_some()) {
                exec.tell(killed(), events).await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of an exec that was started, and tells of it.
pub(super) async fn watch_exec(
    exec: Arc<Exec>,
    agent: Agent,
    ended: EndSignal,
    events: mpsc::UnboundedSender<PodEvent>,
) {
    let (container, id) = (exec.asked.container.clone(), exec.asked.id.clone());
    let outcome = tokio::select! {
        outcome = agent.wait(&container, &id) => outcome,
        _ = ended.wait() => return exec.tell(killed(), &events).await,
    };
    let exit = match outcome {
        Ok(guest) => guest.exit,
        Err(AgentError::Lost { .. }) => {
            ended.wait().await;
            killed()
        }
        Err(error) => {
            // Its container was deleted, or the agent is broken.
            tracing::warn!("the agent cannot wait for {id} of container {container}: {error}");
            killed()
        }
    };
    exec.tell(exit, &events).await;
}
