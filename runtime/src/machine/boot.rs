//! The boot: from running processes to an agent that answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbox_agent_protocol::agent::HandshakeResponse;
use tokio::net::UnixListener;
use tokio::time::{Instant, timeout_at};

use super::progress::{Progress, Stage};
use super::verdict::{Notes, Rank};
use super::watched::Watched;
use crate::agent::{Agent, AgentError};
use crate::console;
use crate::end::EndSignal;
use crate::failure::ErrorKind;

/// A guest that did not boot.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The agent did not answer in time.
    #[error(
        "the guest did not boot within {limit} s (boot_timeout_seconds in the configuration); \
         stage reached: {stage}; {console}"
    )]
    Timeout { limit: u64, stage: String, console: String },
    /// The sandbox ended before the agent answered.
    #[error(
        "the guest did not boot: {reason}; stage reached: {stage}, after {millis} ms; {console}"
    )]
    Ended { reason: String, stage: String, millis: u128, console: String },
    #[error(transparent)]
    Agent(#[from] AgentError),
}

impl BootError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Timeout { .. } => ErrorKind::DeadlineExceeded,
            Self::Ended { .. } => ErrorKind::Internal,
            Self::Agent(e) => e.kind(),
        }
    }
}

/// The arguments of a boot.
pub(crate) struct Boot<'a> {
    pub listener: UnixListener,
    pub socket: &'a Path,
    pub console: &'a Path,
    pub hostname: &'a str,
    pub limit: Duration,
    pub progress: Arc<Progress>,
    pub notes: Notes,
    pub ended: EndSignal,
}

/// Waits for the agent's connection and handshake. A failure ends the sandbox.
pub(crate) async fn boot(boot: Boot<'_>) -> Result<(Agent, HandshakeResponse), BootError> {
    let end = Instant::now() + boot.limit;
    let reason = tokio::select! {
        // Polled first: the end of the guest has a better reason.
        biased;
        reason = boot.ended.wait() => Some(reason),
        connected = timeout_at(end, connect(&boot, end)) => match connected {
            Ok(result) => return result,
            Err(_) => None,
        },
    };
    let console = console::quote(boot.console);
    let stage = boot.progress.stage();
    Err(match reason {
        None => {
            boot.notes.note(Rank::Requested, "the guest did not boot in time".to_owned());
            BootError::Timeout { limit: boot.limit.as_secs(), stage, console }
        }
        Some(reason) => BootError::Ended {
            reason: reason.to_string(),
            stage,
            millis: boot.progress.elapsed().as_millis(),
            console,
        },
    })
}

async fn connect(boot: &Boot<'_>, end: Instant) -> Result<(Agent, HandshakeResponse), BootError> {
    let stream = loop {
        match boot.listener.accept().await {
            Ok((stream, _)) => break stream,
            Err(error) => tracing::warn!("cannot accept the agent's connection: {error}"),
        }
    };
    // The only connection that a guest may make.
    let _ = std::fs::remove_file(boot.socket);
    boot.progress.reach(Stage::Connected, "the agent has connected");
    let agent = Agent::new(Watched { stream, notes: boot.notes.clone() });
    let left = end.saturating_duration_since(Instant::now());
    let answer = agent.handshake(boot.hostname, left).await;
    match answer {
        Ok(answer) => Ok((agent, answer)),
        Err(AgentError::Lost { .. }) => {
            // The end of the sandbox has a better reason, and cancels this call.
            std::future::pending().await
        }
        Err(error) => {
            boot.notes.note(Rank::Requested, format!("the agent could not be used: {error}"));
            Err(error.into())
        }
    }
}
