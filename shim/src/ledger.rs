//! The order of each container's events, whatever the order in which they
//! happen: create, start, out of memory, exit, delete. Between its start and its
//! end an exec has an order of its own, which no other exec holds up.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandbox_runtime::PodEvent;
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
    exit_told: Notify,
}

#[derive(Default)]
struct Entry {
    /// The exec id of each call under way whose own event comes first; empty
    /// for one about the container itself.
    holds: Vec<String>,
    held: Vec<PodEvent>,
    /// It was there at some time, and is until it is deleted.
    made: bool,
    exit_told: bool,
}

impl Entry {
    /// Takes out what need not be held back any more. An exec waits for its own
    /// calls, the container for everything in it.
    fn ready(&mut self) -> Vec<PodEvent> {
        let mut ready = Vec::new();
        for event in std::mem::take(&mut self.held) {
            let waits = match exec_of(&event) {
                "" => !self.holds.is_empty() || !self.held.is_empty(),
                exec => self.holds.iter().any(|held| held == exec),
            };
            if waits { self.held.push(event) } else { ready.push(event) }
        }
        ready
    }
}

/// Which exec an event is of; empty for the container.
fn exec_of(event: &PodEvent) -> &str {
    match event {
        PodEvent::Exit { exec, .. } => exec,
        PodEvent::Oom { .. } => "",
    }
}

impl Ledger {
    /// Writes into this outbox.
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox, containers: Mutex::default(), exit_told: Notify::new() }
    }

    /// A call begins that will make an event of its own, about an exec or, with
    /// an empty id, about the container: what happens to that by itself waits
    /// until [`Ledger::release`].
    pub fn hold(&self, container: &str, exec: &str) {
        let mut containers = self.containers();
        containers.entry(container.to_owned()).or_default().holds.push(exec.to_owned());
    }

    /// The call has ended, with its event if it succeeded.
    pub fn release(&self, container: &str, exec: &str, event: Option<Event>) {
        let mut containers = self.containers();
        let Some(entry) = containers.get_mut(container) else {
            return;
        };
        if let Some(event) = event {
            entry.made = true;
            self.outbox.push(event);
        }
        if let Some(at) = entry.holds.iter().position(|held| held == exec) {
            entry.holds.swap_remove(at);
        }
        self.tell_ready(entry);
        // A call about a container that never was leaves nothing.
        if !entry.made && entry.holds.is_empty() {
            containers.remove(container);
        }
    }

    /// Something happened in a container by itself.
    pub fn happened(&self, event: PodEvent) {
        let container = match &event {
            PodEvent::Exit { container, .. } | PodEvent::Oom { container } => container,
        };
        let mut containers = self.containers();
        match containers.get_mut(container) {
            Some(entry) => {
                entry.held.push(event);
                self.tell_ready(entry);
            }
            None => debug!(?event, "event of a container that is gone"),
        }
    }

    /// The container is removed: its exit comes before this event, if it comes
    /// within `limit`, and nothing after it.
    pub async fn deleted(&self, container: &str, event: Event, limit: Duration) {
        let _ = timeout(limit, self.until_exit_told(container)).await;
        let mut containers = self.containers();
        if containers.remove(container).is_some() {
            self.outbox.push(event);
        }
    }

    /// The container could not be made: none of its events matter.
    pub fn forget(&self, container: &str) {
        self.containers().remove(container);
    }

    async fn until_exit_told(&self, container: &str) {
        loop {
            let told = self.exit_told.notified();
            tokio::pin!(told);
            // From here on no notification is missed.
            told.as_mut().enable();
            if self.containers().get(container).is_none_or(|entry| entry.exit_told) {
                return;
            }
            told.await;
        }
    }

    fn tell_ready(&self, entry: &mut Entry) {
        for event in entry.ready() {
            match event {
                PodEvent::Oom { container } => self.outbox.push(Event::oom(&container)),
                PodEvent::Exit { container, exec, pid, exit } => {
                    self.outbox.push(Event::exited(&container, &exec, pid, exit));
                    if exec.is_empty() {
                        entry.exit_told = true;
                        self.exit_told.notify_waiters();
                    }
                }
            }
        }
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // Every change under the lock is whole even if a holder panicked.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
