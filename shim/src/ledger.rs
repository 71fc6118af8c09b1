//! The order of each container's events, whatever the order in which they
//! happen: create, start, out of memory, exit, delete.

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
    /// Calls under way whose own event comes first.
    holds: u32,
    held: Vec<PodEvent>,
    exit_told: bool,
}

impl Ledger {
    /// Writes into this outbox.
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox, containers: Mutex::default(), exit_told: Notify::new() }
    }

    /// A call begins that will make an event of its own: what happens in the
    /// container by itself waits until [`Ledger::release`].
    pub fn hold(&self, container: &str) {
        let mut containers = self.containers();
        containers.entry(container.to_owned()).or_default().holds += 1;
    }

    /// The call has ended, with its event if it succeeded.
    pub fn release(&self, container: &str, event: Option<Event>) {
        let mut containers = self.containers();
        let Some(entry) = containers.get_mut(container) else {
            return;
        };
        if let Some(event) = event {
            self.outbox.push(event);
        }
        entry.holds = entry.holds.saturating_sub(1);
        if entry.holds == 0 {
            for event in std::mem::take(&mut entry.held) {
                self.tell(entry, event);
            }
        }
    }

    /// Something happened in a container by itself.
    pub fn happened(&self, event: PodEvent) {
        let container = match &event {
            PodEvent::Exit { container, .. } | PodEvent::Oom { container } => container,
        };
        let mut containers = self.containers();
        match containers.get_mut(container) {
            Some(entry) if entry.holds > 0 => entry.held.push(event),
            Some(entry) => self.tell(entry, event),
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

    fn tell(&self, entry: &mut Entry, event: PodEvent) {
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

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // Every change under the lock is whole even if a holder panicked.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
