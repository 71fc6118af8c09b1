//! Runs processes in containers that are there.

use std::sync::Arc;

use super::exec::{Exec, watch_exec};
use super::member::Member;
use super::{Inner, Pod, SIGKILL};
use crate::agent::{Agent, AgentError};
use crate::container::{ExecProcess, ProcessState, Status};
use crate::error::Error;
use crate::event::Exit;
use crate::failure::ErrorKind;
use crate::id::check_exec;
use crate::kill_point;
use crate::stdio::Opened;

impl Pod {
    /// Adds a process to a container, to be started by
    /// [`Pod::start_exec`].
    pub async fn exec(&self, exec: ExecProcess) -> Result<(), Error> {
        check_exec(&exec.id)?;
        let member = self.inner.member(&exec.container)?;
        member.check(can_exec, "running")?;
        if let Err(source) = serde_json::from_slice::<oci_spec::runtime::Process>(&exec.process) {
            return Err(Error::NoProcessSpec { exec: exec.id, source });
        }
        member.execs.add(exec, member.pid)
    }

    /// Runs it. Answers when it has become its program, with its pid.
    pub async fn start_exec(&self, container: &str, exec: &str) -> Result<u32, Error> {
        let member = self.inner.member(container)?;
        let exec = self.inner.exec(container, exec)?;
        let _turn = exec.turn.lock().await;
        exec.check(|is| is == Status::Created, "created")?;
        let started = self.inner.run(&member, &exec).await;
        if started.is_err() {
            exec.set_failed();
        }
        started.map(|()| member.pid)
    }

    /// Where a process that is not the first is in its life.
    pub async fn exec_state(&self, container: &str, exec: &str) -> Result<ProcessState, Error> {
        Ok(self.inner.exec(container, exec)?.state())
    }

    /// Removes a process that has ended or never was started, and answers with
    /// its exit. All that it wrote before its end is with containerd by then.
    pub async fn delete_exec(&self, container: &str, exec: &str) -> Result<Exit, Error> {
        let member = self.inner.member(container)?;
        let exec = self.inner.exec(container, exec)?;
        if exec.exit().is_some() {
            exec.told().await;
        }
        let _turn = exec.turn.lock().await;
        exec.check(|is| is != Status::Running, "stopped")?;
        if exec.guest_pid().is_some() {
            let id = exec.asked.id.as_str();
            match self.inner.call(async |agent| agent.delete_process(container, id).await).await {
                Ok(()) | Err(Error::Ended { .. }) => {}
                Err(Error::Agent(AgentError::Refused { kind: ErrorKind::NotFound, .. })) => {}
                Err(error) => return Err(error),
            }
            exec.drained().await;
        }
        Ok(member.execs.remove(&exec))
    }
}

impl Inner {
    /// Runs an exec; its turn is held.
    async fn run(&self, member: &Member, exec: &Arc<Exec>) -> Result<(), Error> {
        member.check(can_exec, "running")?;
        let (container, id) = (exec.asked.container.as_str(), exec.asked.id.as_str());
        let opened = Opened::open(id, &exec.asked.stdio, self.id.namespace()).await?;
        let agent = self.agent().await?;
        let (process, wanted) = (exec.asked.process.clone(), opened.wanted());
        let pid = self.call(async |agent| agent.exec(container, id, process, wanted).await).await?;
        kill_point::reach("exec: in the guest");
        let streams = match opened.attach(&self.vsock, container, id).await {
            Ok(streams) => streams,
            Err(error) => {
                tokio::spawn(discard(agent, container.to_owned(), id.to_owned()));
                return Err(error.into());
            }
        };
        if let Some((width, height)) = exec.set_started(pid, streams) {
            // It has a terminal of another size, which is no reason to end it.
            if let Err(error) = agent.resize(container, id, width, height).await {
                tracing::warn!("the terminal of {id} keeps its size: {error}");
            }
        }
        let (ended, events) = (self.ended.clone(), self.events.clone());
        tokio::spawn(watch_exec(Arc::clone(exec), agent, ended, events));
        Ok(())
    }
}

/// Whether another process can be run in a container.
fn can_exec(is: Status) -> bool {
    matches!(is, Status::Created | Status::Running)
}

/// Ends and forgets a process that nobody is to know of.
async fn discard(agent: Agent, container: String, exec: String) {
    let _ = agent.kill(&container, &exec, SIGKILL, false).await;
    let _ = agent.wait(&container, &exec).await;
    let _ = agent.delete_process(&container, &exec).await;
}
