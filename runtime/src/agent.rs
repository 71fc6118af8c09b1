//! Calls to the agent in the guest.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use sandbox_agent_protocol::agent::{
    ConfigureNetworkRequest, ContainerRequest, CreateContainerRequest, Empty, ExecProcessRequest,
    HandshakeRequest, HandshakeResponse, KillRequest, ListenersRequest, ListenersResponse,
    OomKillsRequest, ProcessRequest, ResizePtyRequest, RootFilesystem, Stdio,
    UpdateContainerRequest,
};
use sandbox_agent_protocol::agent_ttrpc::AgentClient;
use sandbox_agent_protocol::{PROTOCOL_VERSION, SHARE_TAG};
use tokio::io::{AsyncRead, AsyncWrite};
use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;
use ttrpc::context::{Context, with_duration};
use ttrpc::proto::Code;

use crate::event::Exit;
use crate::failure::ErrorKind;
use crate::id::ProcessRef;

/// Timeout of calls that the agent answers at once: a guest that hangs must not
/// hang containerd.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout of the creation of a container: a large image takes a while on a busy
/// host without KVM.
const CREATE_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout of a signal: a guest that does not answer a SIGKILL is killed, and
/// containerd waits for that.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of the guest's sync and power-off.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Most characters of an error from the guest.
const MAX_MESSAGE: usize = 4096;
/// Most pids from the guest.
const MAX_PIDS: usize = 32768;

/// Most files of a cgroup from the guest, and the longest of them.
const MAX_FILES: usize = 64;
const MAX_FILE: usize = 64 * 1024;

/// A call to the agent that failed.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("{message}")]
    Refused { kind: ErrorKind, message: String },
    #[error("the agent did not answer {call} within {} s", limit.as_secs())]
    Timeout { call: &'static str, limit: Duration },
    #[error("the connection to the agent broke during {call}: {reason}")]
    Lost { call: &'static str, reason: String },
    /// The guest image is of another build.
    #[error(
        "the agent in the guest speaks protocol version {theirs}, this shim speaks \
         {PROTOCOL_VERSION}: rebuild the guest image from the same release as the shim"
    )]
    Version { theirs: u32 },
}

impl AgentError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { kind, .. } => *kind,
            Self::Timeout { .. } => ErrorKind::DeadlineExceeded,
            Self::Lost { .. } => ErrorKind::Unavailable,
            Self::Version { .. } => ErrorKind::FailedPrecondition,
        }
    }
}

/// How a process in the guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestExit {
    pub exit: Exit,
    pub oom_killed: bool,
}

/// The processes of a container, in the guest's numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pids {
    /// All of them.
    pub numbers: Vec<u32>,
    /// Which is the first one; 0 once that has ended.
    pub first: u32,
}

/// The connection to one agent.
#[derive(Clone)]
pub(crate) struct Agent {
    client: AgentClient,
}

impl Agent {
    /// Speaks ttrpc on a connection that the agent made.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + Sync + 'static) -> Self {
        Self { client: AgentClient::new(Client::new(Socket::new(stream))) }
    }

    /// The first call: versions, clock, hostname, share.
    pub async fn handshake(
        &self,
        hostname: &str,
        limit: Duration,
    ) -> Result<HandshakeResponse, AgentError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let request = HandshakeRequest {
            version: PROTOCOL_VERSION,
            time_seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            time_nanos: i32::try_from(now.subsec_nanos()).unwrap_or(0),
            hostname: hostname.to_owned(),
            share_tag: SHARE_TAG.to_owned(),
            ..Default::default()
        };
        let answer = self.client.handshake(within(limit), &request).await;
        let answer = answer.map_err(|e| failed("Handshake", limit, e))?;
        if answer.version != PROTOCOL_VERSION {
            return Err(AgentError::Version { theirs: answer.version });
        }
        Ok(answer)
    }

    pub async fn configure_network(
        &self,
        request: &ConfigureNetworkRequest,
    ) -> Result<(), AgentError> {
        let answer = self.client.configure_network(within(CALL_TIMEOUT), request).await;
        answer.map(drop).map_err(|e| failed("ConfigureNetwork", CALL_TIMEOUT, e))
    }

    /// Returns when what the guest listens on is no longer what `generation`
    /// stands for, however long that takes.
    pub async fn listeners(&self, generation: u64) -> Result<ListenersResponse, AgentError> {
        let request = ListenersRequest { generation, ..Default::default() };
        let answer = self.client.listeners(Context::default(), &request).await;
        answer.map_err(|e| failed("Listeners", Duration::MAX, e))
    }

    pub async fn create(
        &self,
        container: &str,
        spec: Vec<u8>,
        rootfs: Option<RootFilesystem>,
        stdio: Stdio,
    ) -> Result<(), AgentError> {
        let request = CreateContainerRequest {
            container_id: container.to_owned(),
            spec,
            stdio: Some(stdio).into(),
            rootfs: rootfs.into(),
            ..Default::default()
        };
        let answer = self.client.create_container(within(CREATE_TIMEOUT), &request).await;
        answer.map(drop).map_err(|e| failed("CreateContainer", CREATE_TIMEOUT, e))
    }

    pub async fn start(&self, container: &str) -> Result<(), AgentError> {
        let answer =
            self.client.start_container(within(CALL_TIMEOUT), &of_container(container)).await;
        answer.map(drop).map_err(|e| failed("StartContainer", CALL_TIMEOUT, e))
    }

    /// Returns the pid in the guest.
    pub async fn exec(
        &self,
        process: &ProcessRef,
        spec: Vec<u8>,
        stdio: Stdio,
    ) -> Result<u32, AgentError> {
        let request = ExecProcessRequest {
            container_id: process.container.clone(),
            exec_id: process.exec_id().to_owned(),
            process: spec,
            stdio: Some(stdio).into(),
            ..Default::default()
        };
        let answer = self.client.exec_process(within(CREATE_TIMEOUT), &request).await;
        answer.map(|answer| answer.pid).map_err(|e| failed("ExecProcess", CREATE_TIMEOUT, e))
    }

    pub async fn delete_process(&self, process: &ProcessRef) -> Result<(), AgentError> {
        let request = of_process(process);
        let answer = self.client.delete_process(within(CALL_TIMEOUT), &request).await;
        answer.map(drop).map_err(|e| failed("DeleteProcess", CALL_TIMEOUT, e))
    }

    pub async fn kill(
        &self,
        process: &ProcessRef,
        signal: u32,
        all: bool,
    ) -> Result<(), AgentError> {
        let request = KillRequest {
            container_id: process.container.clone(),
            exec_id: process.exec_id().to_owned(),
            signal,
            all,
            ..Default::default()
        };
        let answer = self.client.kill(within(KILL_TIMEOUT), &request).await;
        answer.map(drop).map_err(|e| failed("Kill", KILL_TIMEOUT, e))
    }

    /// Returns when the process has ended, however long that takes.
    pub async fn wait(&self, process: &ProcessRef) -> Result<GuestExit, AgentError> {
        let request = of_process(process);
        let answer = self.client.wait(Context::default(), &request).await;
        let answer = answer.map_err(|e| failed("Wait", Duration::MAX, e))?;
        // By the host's clock: the guest controls its own.
        let exit = Exit { status: answer.exit_status & 0xff, at: SystemTime::now() };
        Ok(GuestExit { exit, oom_killed: answer.oom_killed })
    }

    pub async fn pids(&self, container: &str) -> Result<Pids, AgentError> {
        let answer = self.client.pids(within(CALL_TIMEOUT), &of_container(container)).await;
        let answer = answer.map_err(|e| failed("Pids", CALL_TIMEOUT, e))?;
        let (mut numbers, first) = (answer.pids, answer.first);
        numbers.truncate(MAX_PIDS);
        Ok(Pids { numbers, first })
    }

    pub async fn resize(
        &self,
        process: &ProcessRef,
        width: u32,
        height: u32,
    ) -> Result<(), AgentError> {
        let request = ResizePtyRequest {
            container_id: process.container.clone(),
            exec_id: process.exec_id().to_owned(),
            width,
            height,
            ..Default::default()
        };
        let answer = self.client.resize_pty(within(CALL_TIMEOUT), &request).await;
        answer.map(drop).map_err(|e| failed("ResizePty", CALL_TIMEOUT, e))
    }

    pub async fn pause(&self, container: &str) -> Result<(), AgentError> {
        let answer =
            self.client.pause_container(within(CALL_TIMEOUT), &of_container(container)).await;
        answer.map(drop).map_err(|e| failed("PauseContainer", CALL_TIMEOUT, e))
    }

    pub async fn resume(&self, container: &str) -> Result<(), AgentError> {
        let answer =
            self.client.resume_container(within(CALL_TIMEOUT), &of_container(container)).await;
        answer.map(drop).map_err(|e| failed("ResumeContainer", CALL_TIMEOUT, e))
    }

    pub async fn update(&self, container: &str, resources: Vec<u8>) -> Result<(), AgentError> {
        let request = UpdateContainerRequest {
            container_id: container.to_owned(),
            resources,
            ..Default::default()
        };
        let answer = self.client.update_container(within(CALL_TIMEOUT), &request).await;
        answer.map(drop).map_err(|e| failed("UpdateContainer", CALL_TIMEOUT, e))
    }

    /// Files of the container's cgroup, by name.
    pub async fn stats(&self, container: &str) -> Result<HashMap<String, String>, AgentError> {
        let answer = self.client.stats(within(CALL_TIMEOUT), &of_container(container)).await;
        let files = answer.map_err(|e| failed("Stats", CALL_TIMEOUT, e))?.files;
        let bounded = files.into_iter().take(MAX_FILES).filter(|f| f.text.len() <= MAX_FILE);
        Ok(bounded.map(|file| (file.name, file.text)).collect())
    }

    /// Returns when the number of processes that the guest's kernel has ended
    /// for lack of memory is not `seen`, or the container has ended.
    pub async fn oom_kills(&self, container: &str, seen: u64) -> Result<u64, AgentError> {
        let request =
            OomKillsRequest { container_id: container.to_owned(), seen, ..Default::default() };
        let answer = self.client.oom_kills(Context::default(), &request).await;
        answer.map(|answer| answer.count).map_err(|e| failed("OomKills", Duration::MAX, e))
    }

    pub async fn delete(&self, container: &str) -> Result<(), AgentError> {
        let answer =
            self.client.delete_container(within(CALL_TIMEOUT), &of_container(container)).await;
        answer.map(drop).map_err(|e| failed("DeleteContainer", CALL_TIMEOUT, e))
    }

    pub async fn shutdown(&self) -> Result<(), AgentError> {
        let answer = self.client.shutdown(within(SHUTDOWN_TIMEOUT), &Empty::default()).await;
        answer.map(drop).map_err(|e| failed("Shutdown", SHUTDOWN_TIMEOUT, e))
    }
}

fn of_container(id: &str) -> ContainerRequest {
    ContainerRequest { container_id: id.to_owned(), ..Default::default() }
}

fn of_process(process: &ProcessRef) -> ProcessRequest {
    ProcessRequest {
        container_id: process.container.clone(),
        exec_id: process.exec_id().to_owned(),
        ..Default::default()
    }
}

fn within(limit: Duration) -> Context {
    with_duration(limit)
}

fn failed(call: &'static str, limit: Duration, error: ttrpc::Error) -> AgentError {
    match error {
        ttrpc::Error::RpcStatus(status) => match status.code() {
            Code::DEADLINE_EXCEEDED => AgentError::Timeout { call, limit },
            code => {
                AgentError::Refused { kind: kind_of(code), message: shortened(&status.message) }
            }
        },
        other => AgentError::Lost { call, reason: other.to_string() },
    }
}

fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::INVALID_ARGUMENT => ErrorKind::InvalidArgument,
        Code::NOT_FOUND => ErrorKind::NotFound,
        Code::ALREADY_EXISTS => ErrorKind::AlreadyExists,
        Code::FAILED_PRECONDITION => ErrorKind::FailedPrecondition,
        Code::RESOURCE_EXHAUSTED => ErrorKind::ResourceExhausted,
        Code::UNIMPLEMENTED => ErrorKind::Unimplemented,
        Code::UNAVAILABLE => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').take(MAX_MESSAGE).collect()
}
