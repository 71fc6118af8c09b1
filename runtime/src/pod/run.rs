//! Runs processes in containers that are there.

use std::sync::Arc;

use tracing::Instrument;

use super::exec::{Exec, watch_exec};
use super::member::Member;
use super::{Inner, Pod, SIGKILL};
use crate::agent::{Agent, AgentError};
use crate::container::{ExecProcess, Status};
use crate::error::Error;
use crate::event::Exit;
use crate::failure::ErrorKind;
use crate::guest_spec::translate_process;
use crate::id::{ProcessRef, check_exec};
use crate::kill_point;
use crate::stdio::HostStreams;

impl Pod {
    /// Adds a process to a container, to be started by [`Pod::start`].
    pub async fn exec(&self, exec: ExecProcess) -> Result<(), Error> {
        check_exec(&exec.process)?;
        let member = self.inner.member(&exec.process.container)?;
        member.life.check(can_exec, "running")?;
        match translate_process(&exec.spec) {
            Ok(spec) => member.execs.add(ExecProcess { spec, ..exec }, member.pid),
            Err(source) => Err(Error::NoProcessSpec { process: exec.process, source }),
        }
    }
}

impl Inner {
    pub(super) async fn start_exec(&self, member: &Member, exec: &Arc<Exec>) -> Result<(), Error> {
        let _turn = exec.life.turn().await;
        exec.life.check(|is| is == Status::Created, "created")?;
        let started = self.run(member, exec).await;
        if started.is_err() {
            exec.set_failed();
        }
        started
    }

    /// Removes an exec that has ended or never was started. All that it wrote
    /// is with containerd by then.
    pub(super) async fn delete_exec(&self, member: &Member, exec: &Exec) -> Result<Exit, Error> {
        if exec.life.exit().is_some() {
            exec.exit_reported().await;
        }
        let _turn = exec.life.turn().await;
        exec.life.check(|is| is != Status::Running, "stopped")?;
        if exec.guest_pid().is_some() {
            let process = exec.life.process();
            match self.call(async |agent| agent.delete_process(process).await).await {
                Ok(()) | Err(Error::Ended { .. }) => {}
                Err(Error::Agent(AgentError::Refused { kind: ErrorKind::NotFound, .. })) => {}
                Err(error) => return Err(error),
            }
            exec.drained().await;
        }
        Ok(member.execs.remove(exec))
    }

    /// Runs an exec; its turn is held.
    async fn run(&self, member: &Member, exec: &Arc<Exec>) -> Result<(), Error> {
        member.life.check(can_exec, "running")?;
        let process = exec.life.process();
        let opened = HostStreams::open(process.exec_id(), &exec.stdio, self.id.namespace()).await?;
        let agent = self.agent().await?;
        let (spec, wanted) = (exec.spec.clone(), opened.wanted());
        let pid = self.call(async |agent| agent.exec(process, spec, wanted).await).await?;
        kill_point::reach("exec: in the guest");
        let streams = match opened.attach(&self.vsock, process).await {
            Ok(streams) => streams,
            Err(error) => {
                tokio::spawn(discard(agent, process.clone()));
                return Err(error.into());
            }
        };
        if let Some((width, height)) = exec.set_started(pid, streams) {
            // A terminal of another size is no reason to end the process.
            if let Err(error) = agent.resize(process, width, height).await {
                tracing::warn!("cannot resize the terminal of {process}: {error}");
            }
        }
        let (ended, events) = (self.ended.clone(), self.events.clone());
        tokio::spawn(watch_exec(Arc::clone(exec), agent, ended, events).in_current_span());
        Ok(())
    }
}

fn can_exec(is: Status) -> bool {
    matches!(is, Status::Created | Status::Running)
}

/// Ends and deletes a process in the guest whose start failed on the host.
async fn discard(agent: Agent, process: ProcessRef) {
    let _ = agent.kill(&process, SIGKILL, false).await;
    let _ = agent.wait(&process).await;
    let _ = agent.delete_process(&process).await;
}
