//! One container of a pod.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::container_hooks::ContainerHooks;
use super::exec::Execs;
use super::host_side::HostSide;
use super::lifecycle::{Lifecycle, killed};
use crate::agent::{Agent, AgentError};
use crate::container::{CreateContainer, ProcessState, Stdio};
use crate::end::EndSignal;
use crate::event::{Exit, PodEvent};
use crate::id::ProcessRef;
use crate::stdio::Streams;

/// Shortest time between two reports that the memory limit of a container ended
/// a process: a container may cause that without end.
const OOM_INTERVAL: Duration = Duration::from_secs(1);

/// A container from the moment that the agent made it until it is deleted. Its
/// life is that of its first process.
pub(super) struct Member {
    pub life: Lifecycle,
    pub bundle: PathBuf,
    pub pid: u32,
    pub streams: Streams,
    pub execs: Execs,
    pub hooks: ContainerHooks,
    stdio: Stdio,
    /// The last content of the container's cgroup.
    usage: Mutex<Arc<HashMap<String, String>>>,
    oom_reported: Mutex<bool>,
    host: Mutex<Option<HostSide>>,
}

impl Member {
    pub fn new(
        request: CreateContainer,
        pid: u32,
        streams: Streams,
        host: HostSide,
        hooks: ContainerHooks,
    ) -> Self {
        Self {
            life: Lifecycle::new(ProcessRef::init(request.id)),
            bundle: request.bundle,
            pid,
            streams,
            execs: Execs::default(),
            hooks,
            stdio: request.stdio,
            usage: Mutex::default(),
            oom_reported: Mutex::default(),
            host: Mutex::new(Some(host)),
        }
    }

    pub fn id(&self) -> &str {
        &self.life.process().container
    }

    pub fn state(&self) -> ProcessState {
        ProcessState {
            bundle: self.bundle.clone(),
            stdio: self.stdio.clone(),
            pid: self.pid,
            status: self.life.status(),
            exit: self.life.exit(),
        }
    }

    pub fn set_usage(&self, files: Arc<HashMap<String, String>>) {
        *self.usage.lock() = files;
    }

    pub fn usage(&self) -> Arc<HashMap<String, String>> {
        self.usage.lock().clone()
    }

    /// Removes what the container has on the host. Blocks.
    pub fn release(&self) {
        let host = self.host.lock().take();
        drop(host);
    }

    async fn report_exit(&self, exit: Exit, oom: bool, events: &mpsc::UnboundedSender<PodEvent>) {
        if !self.life.stop(exit) {
            return;
        }
        self.execs.ended(events).await;
        // A start that is under way is answered first.
        let _turn = self.life.turn().await;
        let process = self.life.process().clone();
        if oom && !*self.oom_reported.lock() {
            let _ = events.send(PodEvent::Oom { container: process.container.clone() });
        }
        let _ = events.send(PodEvent::Exit { process, pid: self.pid, exit });
    }
}

/// Waits for a container's end and reports it.
pub(super) async fn watch_exit(
    member: Arc<Member>,
    agent: Agent,
    ended: EndSignal,
    events: mpsc::UnboundedSender<PodEvent>,
) {
    let outcome = tokio::select! {
        outcome = agent.wait(member.life.process()) => outcome,
        _ = ended.wait() => return member.report_exit(killed(), false, &events).await,
    };
    match outcome {
        Ok(guest) => return member.report_exit(guest.exit, guest.oom_killed, &events).await,
        // The connection ends with the sandbox.
        Err(AgentError::Lost { .. }) => drop(ended.wait().await),
        // The agent is broken, so that nothing more will be known of the container.
        Err(error) => tracing::error!("cannot wait for container {}: {error}", member.id()),
    }
    member.report_exit(killed(), false, &events).await;
}

/// Reports at once that the memory limit of a container ended a process, which
/// need not be its first.
pub(super) async fn watch_oom(
    member: Arc<Member>,
    agent: Agent,
    ended: EndSignal,
    events: mpsc::UnboundedSender<PodEvent>,
) {
    let mut seen = 0;
    loop {
        let count = tokio::select! {
            count = agent.oom_kills(member.id(), seen) => count,
            _ = ended.wait() => return,
        };
        let Ok(count) = count else { return };
        {
            let mut reported = member.oom_reported.lock();
            // Once the exit is known, the report of the exit decides.
            if count <= seen || member.life.exit().is_some() {
                return;
            }
            *reported = true;
            let _ = events.send(PodEvent::Oom { container: member.id().to_owned() });
        }
        seen = count;
        sleep(OOM_INTERVAL).await;
    }
}
