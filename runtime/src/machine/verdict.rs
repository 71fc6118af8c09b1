//! The reason of a sandbox's end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::end::EndSignal;
use crate::process::HostProcess;

/// Capacity of the queue: each of few processes reports once.
const NOTES: usize = 16;
/// A device's process may have ended because the machine did; the engine's
/// reason, which follows, is better.
const BACKEND_TIMEOUT: Duration = Duration::from_millis(200);
/// After the end of the agent's connection: a guest that panicked resets soon.
const AGENT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Sources of a reason, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A client or the shim requested the end.
    Requested,
    /// The engine.
    Engine,
    /// A device's process.
    Backend,
    /// The connection to the agent.
    Agent,
}

impl Rank {
    fn timeout(self) -> Duration {
        match self {
            Self::Requested | Self::Engine => Duration::ZERO,
            Self::Backend => BACKEND_TIMEOUT,
            Self::Agent => AGENT_TIMEOUT,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Notes(mpsc::Sender<(Rank, String)>);

impl Notes {
    /// Reports an end, which is the sandbox's.
    pub fn note(&self, rank: Rank, reason: String) {
        // Full or closed: the sandbox is ending already.
        let _ = self.0.try_send((rank, reason));
    }
}

/// Decides once, from the first reason and those that follow within its
/// timeout; then kills every process.
pub(crate) fn judge(processes: Vec<Arc<HostProcess>>) -> (Notes, EndSignal) {
    let (notes, mut received) = mpsc::channel(NOTES);
    let (sender, ended) = EndSignal::channel();
    tokio::spawn(async move {
        let reason = match received.recv().await {
            Some(first) => best(first, &mut received).await,
            None => return,
        };
        processes.iter().for_each(|process| process.kill());
        sender.send_replace(Some(reason.into()));
        // The sender stays, so that a later wait returns the same reason.
        sender.closed().await;
    });
    (Notes(notes), ended)
}

async fn best(first: (Rank, String), notes: &mut mpsc::Receiver<(Rank, String)>) -> String {
    let (mut rank, mut reason) = first;
    let mut end = Instant::now() + rank.timeout();
    while rank > Rank::Engine {
        match timeout_at(end, notes.recv()).await {
            Ok(Some(next)) if next.0 < rank => {
                (rank, reason) = next;
                end = end.min(Instant::now() + rank.timeout());
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    reason
}

#[cfg(test)]
mod tests;
