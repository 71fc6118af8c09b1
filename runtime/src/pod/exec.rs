//! A process that is run in a container beside its first.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::lifecycle::{Lifecycle, killed};
use crate::agent::{Agent, AgentError};
use crate::container::{ExecProcess, ProcessState, Stdio};
use crate::end::EndSignal;
use crate::error::Error;
use crate::event::{Exit, PodEvent};
use crate::id::ProcessRef;
use crate::stdio::Streams;

#[cfg(test)]
mod tests;

/// Most execs of a container that are not deleted: the agent's own bound.
const MAX_EXECS: usize = 256;

/// Exit status of an exec that could not be started, as of shells.
const NOT_STARTED: u32 = 127;

/// How long the end of a container waits for the ends of all its execs, which
/// the agent has killed by then. Less than a Delete waits for it.
const EXITS_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Exec {
    pub life: Lifecycle,
    pub spec: Vec<u8>,
    pub stdio: Stdio,
    pid: u32,
    started: OnceLock<Started>,
    early: Mutex<EarlyRequests>,
    exit_reported: watch::Sender<bool>,
}

/// What an exec has from its start on.
struct Started {
    guest_pid: u32,
    streams: Streams,
}

/// Requests that came before the start.
#[derive(Default)]
struct EarlyRequests {
    close_stdin: bool,
    size: Option<(u32, u32)>,
}

impl Exec {
    fn new(request: ExecProcess, pid: u32) -> Self {
        Self {
            life: Lifecycle::new(request.process),
            spec: request.spec,
            stdio: request.stdio,
            pid,
            started: OnceLock::new(),
            early: Mutex::default(),
            exit_reported: watch::Sender::new(false),
        }
    }

    /// The pid in the guest, from the start on.
    pub fn guest_pid(&self) -> Option<u32> {
        self.started.get().map(|started| started.guest_pid)
    }

    pub fn state(&self, bundle: PathBuf) -> ProcessState {
        ProcessState {
            bundle,
            stdio: self.stdio.clone(),
            pid: self.started.get().map_or(0, |_| self.pid),
            status: self.life.status(),
            exit: self.life.exit(),
        }
    }

    /// The exec runs. Returns the size that its terminal is to have.
    pub fn set_started(&self, guest_pid: u32, streams: Streams) -> Option<(u32, u32)> {
        let mut early = self.early.lock();
        if early.close_stdin {
            streams.close_stdin();
        }
        // Set once: an exec is started once.
        let _ = self.started.set(Started { guest_pid, streams });
        self.life.run();
        early.size.take()
    }

    /// The exec could not be started. No event reports this end.
    pub fn set_failed(&self) {
        self.life.stop(Exit { status: NOT_STARTED, at: SystemTime::now() });
    }

    /// Ends the standard input, at the start if that is still to come.
    pub fn close_stdin(&self) {
        let mut early = self.early.lock();
        match self.started.get() {
            Some(started) => started.streams.close_stdin(),
            None => early.close_stdin = true,
        }
    }

    /// Keeps the size for a terminal that is not there yet; false if it is.
    pub fn keep_size(&self, width: u32, height: u32) -> bool {
        let mut early = self.early.lock();
        let is_early = self.started.get().is_none() && self.life.exit().is_none();
        if is_early {
            early.size = Some((width, height));
        }
        is_early
    }

    /// Waits until all output is with containerd.
    pub async fn drained(&self) {
        if let Some(started) = self.started.get() {
            started.streams.finish().await;
        }
    }

    /// Waits until the exit of an exec that was started is reported.
    pub async fn exit_reported(&self) {
        if self.started.get().is_some() {
            // Cannot fail: `self` holds the sender.
            let _ = self.exit_reported.subscribe().wait_for(|reported| *reported).await;
        }
    }

    async fn report_exit(&self, exit: Exit, events: &mpsc::UnboundedSender<PodEvent>) {
        if !self.life.stop(exit) {
            return;
        }
        // A start that is under way is answered first.
        let _turn = self.life.turn().await;
        let process = self.life.process().clone();
        let _ = events.send(PodEvent::Exit { process, pid: self.pid, exit });
        self.exit_reported.send_replace(true);
    }
}

/// The execs of one container.
#[derive(Default)]
pub(super) struct Execs(Mutex<HashMap<ProcessRef, Arc<Exec>>>);

impl Execs {
    /// Adds an exec that is not started.
    pub fn add(&self, request: ExecProcess, pid: u32) -> Result<(), Error> {
        let process = request.process.clone();
        let mut all = self.0.lock();
        if all.contains_key(&process) {
            return Err(Error::Exists(process));
        }
        if all.len() >= MAX_EXECS {
            return Err(Error::TooManyProcesses { container: process.container, most: MAX_EXECS });
        }
        all.insert(process, Arc::new(Exec::new(request, pid)));
        Ok(())
    }

    pub fn get(&self, process: &ProcessRef) -> Option<Arc<Exec>> {
        self.0.lock().get(process).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Exec>> {
        self.0.lock().values().cloned().collect()
    }

    /// Removes an exec and returns its exit, as every wait for it does.
    pub fn remove(&self, exec: &Exec) -> Exit {
        // An exec that never ran has not failed either.
        let unused = || Exit { status: 0, at: SystemTime::now() };
        let exit = exec.life.delete(exec.started.get().map_or_else(unused, |_| killed()));
        self.0.lock().remove(exec.life.process());
        exit
    }

    /// Waits until the exit of each exec that ran is reported, so that the
    /// container's comes after them.
    pub async fn ended(&self, events: &mpsc::UnboundedSender<PodEvent>) {
        let all = self.all();
        let reported = async {
            for exec in &all {
                // A start that is under way comes first.
                drop(exec.life.turn().await);
                exec.exit_reported().await;
            }
        };
        if timeout(EXITS_TIMEOUT, reported).await.is_err() {
            for exec in all.iter().filter(|exec| exec.started.get().is_some()) {
                exec.report_exit(killed(), events).await;
            }
        }
    }
}

/// Waits for the end of an exec that was started and reports it.
pub(super) async fn watch_exec(
    exec: Arc<Exec>,
    agent: Agent,
    ended: EndSignal,
    events: mpsc::UnboundedSender<PodEvent>,
) {
    let process = exec.life.process();
    let outcome = tokio::select! {
        outcome = agent.wait(process) => outcome,
        _ = ended.wait() => return exec.report_exit(killed(), &events).await,
    };
    let exit = match outcome {
        Ok(guest) => guest.exit,
        Err(AgentError::Lost { .. }) => {
            ended.wait().await;
            killed()
        }
        Err(error) => {
            // Its container was deleted, or the agent is broken.
            tracing::warn!("cannot wait for {process}: {error}");
            killed()
        }
    };
    exec.report_exit(exit, &events).await;
}
