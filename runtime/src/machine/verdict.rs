//! Why a sandbox ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::process::HostProcess;

/// Room for what few processes can say once each.
const NOTES: usize = 16;
/// When a device's process ends, it may be for the machine's end, of which
/// the engine tells more.
const BACKEND_PATIENCE: Duration = Duration::from_millis(200);
/// When the agent's connection ends, a panicking guest is about to reset.
const AGENT_PATIENCE: Duration = Duration::from_millis(1500);

/// Whose words explain an end best, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The end was asked for.
    Asked,
    /// The engine.
    Engine,
    /// A device's process.
    Backend,
    /// The connection to the agent.
    Agent,
}

impl Rank {
    fn patience(self) -> Duration {
        match self {
            Self::Asked | Self::Engine => Duration::ZERO,
            Self::Backend => BACKEND_PATIENCE,
            Self::Agent => AGENT_PATIENCE,
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

/// Tells of the sandbox's end.
#[derive(Clone, Debug)]
pub(crate) struct Ended(watch::Receiver<Option<Arc<str>>>);

impl Ended {
    /// Why, if it has.
    pub fn reason(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Answers when it has.
    pub async fn wait(&self) -> Arc<str> {
        let mut receiver = self.0.clone();
        match receiver.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(|| "unknown".into()),
            Err(_) => "its shim let go of it".into(),
        }
    }
}

/// Decides once, from the first note and what follows it shortly; then kills
/// every process.
pub(crate) fn judge(processes: Vec<Arc<HostProcess>>) -> (Notes, Ended) {
    let (sender, mut notes) = mpsc::channel(NOTES);
    let (ended, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let reason = match notes.recv().await {
            Some(first) => best(first, &mut notes).await,
            None => return,
        };
        processes.iter().for_each(|process| process.kill());
        ended.send_replace(Some(reason.into()));
        // Kept open: who asks later is told the same.
        ended.closed().await;
    });
    (Notes(sender), Ended(receiver))
}

async fn best(first: (Rank, String), notes: &mut mpsc::Receiver<(Rank, String)>) -> String {
    let (mut rank, mut reason) = first;
    let mut end = Instant::now() + rank.patience();
    while rank > Rank::Engine {
        match timeout_at(end, notes.recv()).await {
            Ok(Some(next)) if next.0 < rank => {
                (rank, reason) = next;
                end = end.min(Instant::now() + rank.patience());
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    reason
}

#[cfg(test)]
mod tests;
