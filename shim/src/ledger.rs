//! The order of each container's events, whatever the order in which they
//! happen: create, start, out of memory, exit, delete. Between its start and its
//! end each exec has a separate order.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use sandbox_runtime::{ExecId, PodEvent, ProcessRef};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::debug;

use crate::event::Event;
use crate::outbox::Outbox;

#[cfg(test)]
mod tests;

/// Pushes events to the outbox and holds back those that came too early.
pub struct Ledger {
    outbox: Outbox,
    containers: Mutex<HashMap<String, Entry>>,
    exit_reported: Notify,
}

#[derive(Default)]
struct Entry {
    /// The exec of each call under way whose own event comes first; none for
    /// a call about the container itself.
    holds: Vec<Option<ExecId>>,
    held: Vec<PodEvent>,
    /// True from Create to Delete.
    made: bool,
    exit_reported: bool,
}

impl Entry {
    /// Removes and returns the events that may go out. An exec's wait for calls about
    /// it, the container's for all in the container.
    fn ready(&mut self) -> Vec<PodEvent> {
        let mut ready = Vec::new();
        for event in std::mem::take(&mut self.held) {
            let waits = match exec_of(&event) {
                None => !self.holds.is_empty() || !self.held.is_empty(),
                exec => self.holds.contains(exec),
            };
            if waits { self.held.push(event) } else { ready.push(event) }
        }
        ready
    }
}

/// The exec of an event; none for the container itself.
fn exec_of(event: &PodEvent) -> &Option<ExecId> {
    match event {
        PodEvent::Exit { process, .. } => &process.exec,
        PodEvent::Oom { .. } => &None,
    }
}

impl Ledger {
    /// Writes into this outbox.
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox, containers: Mutex::default(), exit_reported: Notify::new() }
    }

    /// Holds back a process's events until [`Ledger::release`]: a call about it has
    /// begun, and the call's event comes first.
    pub fn hold(&self, process: &ProcessRef) {
        let mut containers = self.containers.lock();
        let entry = containers.entry(process.container.clone()).or_default();
        entry.holds.push(process.exec.clone());
    }

    /// The call has ended, with its event if it succeeded.
    pub fn release(&self, process: &ProcessRef, event: Option<Event>) {
        let mut containers = self.containers.lock();
        let Some(entry) = containers.get_mut(&process.container) else {
            return;
        };
        if let Some(event) = event {
            entry.made = true;
            self.outbox.push(event);
        }
        if let Some(at) = entry.holds.iter().position(|held| *held == process.exec) {
            entry.holds.swap_remove(at);
        }
        self.push_ready(entry);
        // A call about a container that never was leaves nothing.
        if !entry.made && entry.holds.is_empty() {
            containers.remove(&process.container);
        }
    }

    /// Takes an event that no call caused.
    pub fn happened(&self, event: PodEvent) {
        let container = match &event {
            PodEvent::Exit { process, .. } => &process.container,
            PodEvent::Oom { container } => container,
        };
        let mut containers = self.containers.lock();
        match containers.get_mut(container) {
            Some(entry) => {
                entry.held.push(event);
                self.push_ready(entry);
            }
            None => debug!(?event, "event of a container that is gone"),
        }
    }

    /// Pushes a container's last event, after its exit if that comes within `limit`.
    pub async fn deleted(&self, container: &str, event: Event, limit: Duration) {
        let _ = timeout(limit, self.until_exit_reported(container)).await;
        let mut containers = self.containers.lock();
        if containers.remove(container).is_some() {
            self.outbox.push(event);
        }
    }

    /// Drops the events of a container that could not be created.
    pub fn forget(&self, container: &str) {
        self.containers.lock().remove(container);
    }

    async fn until_exit_reported(&self, container: &str) {
        loop {
            // Created before the look: it receives every later notification.
            let reported = self.exit_reported.notified();
            if self.containers.lock().get(container).is_none_or(|entry| entry.exit_reported) {
                return;
            }
            reported.await;
        }
    }

    fn push_ready(&self, entry: &mut Entry) {
        for event in entry.ready() {
            match event {
                PodEvent::Oom { container } => self.outbox.push(Event::oom(&container)),
                PodEvent::Exit { process, pid, exit } => {
                    self.outbox.push(Event::exited(&process, pid, exit));
                    if process.exec.is_none() {
                        entry.exit_reported = true;
                        self.exit_reported.notify_waiters();
                    }
                }
            }
        }
    }
}
