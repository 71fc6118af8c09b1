//! The order of each container's events, whatever the order in which they
//! happen: create, start, out of memory, exit, delete. Between its start and its
//! end an exec has an order of its own, which no other exec holds up.

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

/// Puts events into the outbox, holding back those that came too early.
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
    /// It was there at some time, and is until it is deleted.
    made: bool,
    exit_reported: bool,
}

impl Entry {
    /// Takes out what need not be held back any more. An exec waits for its own
    /// calls, the container for everything in it.
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

    /// A call begins that will make an event of its own about a process: events
    /// of that process wait until [`Ledger::release`].
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

    /// Something happened in a container by itself.
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

    /// The container is removed: its exit comes before this event, if it comes
    /// within `limit`, and nothing after it.
    pub async fn deleted(&self, container: &str, event: Event, limit: Duration) {
        let _ = timeout(limit, self.until_exit_reported(container)).await;
        let mut containers = self.containers.lock();
        if containers.remove(container).is_some() {
            self.outbox.push(event);
        }
    }

    /// The container could not be made: none of its events matter.
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
