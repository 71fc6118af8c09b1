//! Takes the exit status of every process that ends in the guest.
//!
//! Process 1 inherits every orphan, and processes of containers are its
//! children from the start or become so when their creator ends. So there is
//! one place that waits, and the others ask it about a process by number.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::process::{WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How and when a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0–255, or 128 + the number of the signal.
    pub status: u32,
    /// When it was reaped.
    pub at: SystemTime,
}

/// Yields the exit of one process, now or later, as often as asked.
pub type ExitWatch = watch::Receiver<Option<Exit>>;

#[derive(Clone, Default)]
pub struct Reaper {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    watched: HashMap<i32, watch::Sender<Option<Exit>>>,
    /// Exits of processes without a watcher yet, kept only while a
    /// creation is under way: its process may end before its number is known.
    unclaimed: HashMap<i32, Exit>,
    creations: usize,
}

impl Reaper {
    /// Starts to reap. Must be called before the first process is started.
    pub fn start() -> io::Result<Self> {
        let reaper = Self::default();
        let signals = signal(SignalKind::child())?;
        tokio::spawn(reaper.clone().run(signals));
        Ok(reaper)
    }

    async fn run(self, mut signals: Signal) {
        loop {
            self.reap_all();
            if signals.recv().await.is_none() {
                return;
            }
        }
    }

    /// Signals coalesce, so each may stand for any number of ended processes.
    fn reap_all(&self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(status) = exit_status(status) {
                let exit = Exit { status, at: SystemTime::now() };
                self.lock().ended(pid.as_raw_nonzero().get(), exit);
            }
        }
    }

    /// While the returned guard lives, no exit is forgotten.
    pub fn creation(&self) -> Creation {
        self.lock().creations += 1;
        Creation { reaper: self.clone() }
    }

    /// The exit of process `pid`. Ask right after starting it, or while a
    /// [`Creation`] that was made before it was started lives.
    pub fn watch(&self, pid: i32) -> ExitWatch {
        self.lock().watch(pid)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ended(&mut self, pid: i32, exit: Exit) {
        match self.watched.remove(&pid) {
            // An error means that the last watcher is gone.
            Some(watch) => drop(watch.send(Some(exit))),
            None if self.creations > 0 => drop(self.unclaimed.insert(pid, exit)),
            None => {}
        }
    }

    fn watch(&mut self, pid: i32) -> ExitWatch {
        if let Some(exit) = self.unclaimed.remove(&pid) {
            return watch::channel(Some(exit)).1;
        }
        match self.watched.get(&pid) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(None);
                self.watched.insert(pid, sender);
                receiver
            }
        }
    }
}

/// Keeps the exits of unknown processes while a container is being created.
pub struct Creation {
    reaper: Reaper,
}

impl Drop for Creation {
    fn drop(&mut self) {
        let mut state = self.reaper.lock();
        state.creations -= 1;
        if state.creations == 0 {
            state.unclaimed.clear();
        }
    }
}

/// The exit status as shells and containerd count it; `None` for a process
/// that has only stopped or gone on.
fn exit_status(status: WaitStatus) -> Option<u32> {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s))?;
    u32::try_from(code).ok()
}

/// Waits for the exit that `watch` yields.
pub async fn exit_of(mut watch: ExitWatch) -> Exit {
    // The sender goes only after it has sent, so the error cannot happen; a
    // status that no process has is better than a hang.
    match watch.wait_for(Option::is_some).await.map(|exit| *exit) {
        Ok(Some(exit)) => exit,
        _ => Exit { status: 255, at: SystemTime::now() },
    }
}

#[cfg(test)]
mod tests;
