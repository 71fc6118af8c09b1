//! The queue of events for containerd: in order, each once, and kept while
//! containerd is away.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use crate::event::Event;

#[cfg(test)]
mod tests;

/// Most events that wait. It stops a containerd that never comes back from
/// filling memory; a pod makes five per container, so it is 400 containers.
pub const CAPACITY: usize = 2048;

/// Wait before the first retry; doubled for each further one.
pub const FIRST_RETRY: Duration = Duration::from_millis(50);

/// Longest wait between retries: how late events come after containerd is back.
pub const LAST_RETRY: Duration = Duration::from_secs(2);

/// Why an event did not arrive.
#[derive(Debug, PartialEq, Eq)]
pub enum SinkError {
    /// containerd is not reachable: try again.
    Away(String),
    /// containerd refuses the event: another try changes nothing.
    Refused(String),
}

pub trait Sink: Send {
    fn send(&mut self, event: &Event) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// The queue. Clones are handles of the same one.
#[derive(Clone, Default)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<VecDeque<Event>>,
    filled: Notify,
    emptied: Notify,
}

impl Outbox {
    /// Adds an event behind all others. When the queue is full the oldest is
    /// lost: the newest show the containers' present state.
    pub fn push(&self, event: Event) {
        let mut queue = self.queue();
        if queue.len() >= CAPACITY
            && let Some(lost) = queue.pop_front()
        {
            error!(topic = lost.topic(), "event lost: {CAPACITY} wait for containerd");
        }
        queue.push_back(event);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Delivers events for ever.
    pub async fn deliver(self, mut sink: impl Sink) {
        loop {
            let filled = self.shared.filled.notified();
            let Some(event) = self.queue().front().cloned() else {
                filled.await;
                continue;
            };
            deliver_one(&mut sink, &event).await;
            self.delivered(&event);
        }
    }

    /// Waits at most `limit` for the delivery of all events; false on a timeout.
    pub async fn flush(&self, limit: Duration) -> bool {
        timeout(limit, async {
            loop {
                let emptied = self.shared.emptied.notified();
                if self.queue().is_empty() {
                    return;
                }
                emptied.await;
            }
        })
        .await
        .is_ok()
    }

    /// Takes the event off; it may be gone already, if the queue overflowed
    /// meanwhile.
    fn delivered(&self, event: &Event) {
        let mut queue = self.queue();
        if queue.front() == Some(event) {
            queue.pop_front();
        }
        if queue.is_empty() {
            self.shared.emptied.notify_waiters();
        }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.shared.queue.lock()
    }
}

async fn deliver_one(sink: &mut impl Sink, event: &Event) {
    let mut pause = FIRST_RETRY;
    loop {
        match sink.send(event).await {
            Ok(()) => return,
            Err(SinkError::Refused(reason)) => {
                error!(topic = event.topic(), reason, "containerd refuses an event");
                return;
            }
            Err(SinkError::Away(reason)) => {
                warn!(topic = event.topic(), reason, "containerd takes no events now");
                sleep(pause).await;
                pause = (pause * 2).min(LAST_RETRY);
            }
        }
    }
}
