//! Why a sandbox ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::end::EndSignal;
use crate::process::HostProcess;

/// Room for what few processes can say once each.
const NOTES: usize = 16;
/// When a device's process ends, it may be for the machine's end, of which
/// the engine tells more.
const BACKEND_TIMEOUT: Duration = Duration::from_millis(200);
/// When the agent's connection ends, a panicking guest is about to reset.
const AGENT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Whose words explain an end best, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The end was asked for.
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

/// Takes notes of ends.
#[derive(Clone, Debug)]
pub(crate) struct Notes(mpsc::Sender<(Rank, String)>);

impl Notes {
    /// Something has ended, and with it the sandbox.
    pub fn note(&self, rank: Rank, reason: String) {
        // Full or closed: the end is known already.
        let _ = self.0.try_send((rank, reason));
    }
}

/// Decides once, from the first note and what follows it shortly; then kills
/// every process.
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
