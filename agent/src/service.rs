//! The ttrpc service. Each method checks its request, performs it and answers.
//!
//! ttrpc bounds a message to 4 MiB and answers malformed ones itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rustix::time::{ClockId, Timespec, clock_settime};
use sandbox_agent_protocol::agent::{
    ConfigureNetworkRequest, ContainerRequest, CreateContainerRequest, CreateContainerResponse,
    Empty, ExecProcessRequest, ExecProcessResponse, HandshakeRequest, HandshakeResponse,
    KillRequest, ListenersRequest, ListenersResponse, OomKillsRequest, OomKillsResponse,
    PidsResponse, ProcessRequest, ResizePtyRequest, StartResponse, StateResponse, StatsResponse,
    Status, Stdio, UpdateContainerRequest, WaitResponse,
};
use sandbox_agent_protocol::agent_ttrpc::Agent;
use sandbox_agent_protocol::{PROTOCOL_VERSION, SHARE_DIR};
use tokio::sync::Notify;
use ttrpc::r#async::TtrpcContext;

use crate::container::{Container, Phase};
use crate::create;
use crate::error::CallError;
use crate::exec;
use crate::id;
use crate::listeners::Listeners;
use crate::mounts;
use crate::network::Network;
use crate::process::check_signal;
use crate::reaper::{Exit, Reaper, exit_of};
use crate::spec;
use crate::stats;
use crate::stdio::Wanted;
use crate::table::Table;

/// How long file systems may take to be written back at the end.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Service {
    table: Arc<Table>,
    reaper: Reaper,
    network: Network,
    listeners: Listeners,
    shaken: Arc<Notify>,
    handshake_done: AtomicBool,
    shutdown: Arc<Notify>,
}

impl Service {
    /// A service for the containers of `table`. `shaken` is notified of the
    /// handshake, `shutdown` when the guest is to end.
    pub fn new(
        table: Arc<Table>,
        reaper: Reaper,
        shaken: Arc<Notify>,
        shutdown: Arc<Notify>,
    ) -> Self {
        Self {
            table,
            reaper,
            network: Network::default(),
            listeners: Listeners::default(),
            shaken,
            handshake_done: AtomicBool::new(false),
            shutdown,
        }
    }

    fn container(&self, id: &str) -> Result<Arc<Container>, CallError> {
        self.check_handshake()?;
        id::check(id)?;
        self.table.get(id)
    }

    fn check_handshake(&self) -> Result<(), CallError> {
        if self.handshake_done.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(CallError::NoHandshake)
        }
    }

    fn shake(&self, request: &HandshakeRequest) -> Result<HandshakeResponse, CallError> {
        if request.version != PROTOCOL_VERSION {
            return Err(CallError::Version(request.version));
        }
        if self.handshake_done.load(Ordering::Relaxed) {
            return Err(CallError::SecondHandshake);
        }
        set_clock(request.time_seconds, request.time_nanos)?;
        set_hostname(&request.hostname)?;
        if !request.share_tag.is_empty() {
            mounts::share(&request.share_tag, SHARE_DIR)?;
        }
        self.handshake_done.store(true, Ordering::Relaxed);
        self.shaken.notify_one();
        Ok(describe_guest())
    }

    async fn create(&self, request: CreateContainerRequest) -> Result<u32, CallError> {
        self.check_handshake()?;
        id::check(&request.container_id)?;
        let id = &request.container_id;
        let reservation = self.table.reserve(id)?;
        let wanted = wanted(&request.stdio);
        let prepared = spec::prepare(id, &request.spec, wanted)?;
        let rootfs = request.rootfs.as_ref();
        let template = prepared.template.clone();
        let created = create::create(id, prepared, rootfs, wanted, &self.reaper).await?;
        let container = Container::new(id, created, template);
        let pid = container.init().pid();
        reservation.fill(container);
        Ok(pid)
    }

    async fn exec(&self, request: ExecProcessRequest) -> Result<u32, CallError> {
        let container = self.container(&request.container_id)?;
        id::check(&request.exec_id)?;
        let reserved = container.reserve(&request.exec_id)?;
        let wanted = wanted(&request.stdio);
        match exec::exec(&container, &request.process, wanted, &self.reaper).await {
            Ok(process) => Ok(reserved.fill(process)),
            // The container ended with it, and its error explains more.
            Err(CallError::Create(error)) => {
                Err(container.still_runs().err().unwrap_or(error.into()))
            }
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, id: &str) -> Result<(), CallError> {
        let container = self.container(id)?;
        container.delete().await?;
        self.table.remove(id);
        Ok(())
    }

    fn resize(&self, request: &ResizePtyRequest) -> Result<(), CallError> {
        let process = self.container(&request.container_id)?.process(&request.exec_id)?;
        let terminal = process.stdio.terminal().ok_or(CallError::NoTerminal)?;
        let (width, height) = (request.width, request.height);
        let too_large = |_| CallError::TerminalSize { width, height };
        let columns = u16::try_from(width).map_err(too_large)?;
        let lines = u16::try_from(height).map_err(too_large)?;
        terminal.resize(columns, lines).map_err(CallError::io("resize the terminal"))
    }
}

fn wanted(stdio: &Stdio) -> Wanted {
    Wanted {
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        terminal: stdio.terminal,
    }
}

fn set_clock(seconds: i64, nanos: i32) -> Result<(), CallError> {
    if seconds < 0 || !(0..1_000_000_000).contains(&nanos) {
        let why = format!("{seconds} s and {nanos} ns are no time of a clock");
        return Err(CallError::Handshake(why));
    }
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    clock_settime(ClockId::Realtime, time)
        .map_err(|errno| CallError::Io { what: "set the clock".to_owned(), source: errno.into() })
}

fn set_hostname(hostname: &str) -> Result<(), CallError> {
    if hostname.is_empty() {
        return Ok(());
    }
    rustix::system::sethostname(hostname.as_bytes())
        .map_err(|errno| CallError::Handshake(format!("hostname {hostname:?}: {errno}")))
}

fn describe_guest() -> HandshakeResponse {
    let memory = rustix::system::sysinfo();
    HandshakeResponse {
        version: PROTOCOL_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        vcpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_bytes: memory.totalram.saturating_mul(memory.mem_unit.into()),
        ..Default::default()
    }
}

/// Seconds and nanoseconds since 1970, as the protocol counts.
fn timestamp(time: SystemTime) -> (i64, i32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs().cast_signed(), since.subsec_nanos().cast_signed())
}

fn status_of(phase: Phase) -> Status {
    match phase {
        Phase::Created => Status::CREATED,
        Phase::Running => Status::RUNNING,
        Phase::Paused => Status::PAUSED,
        Phase::Stopped | Phase::Deleting => Status::STOPPED,
    }
}

fn state(container: &Container) -> StateResponse {
    let mut answer = StateResponse {
        status: status_of(container.phase()).into(),
        pid: container.init().pid(),
        ..Default::default()
    };
    if let Some(Exit { status, at }) = container.init().exited() {
        answer.exit_status = status;
        (answer.exited_seconds, answer.exited_nanos) = timestamp(at);
    }
    answer
}

#[async_trait]
impl Agent for Service {
    async fn handshake(
        &self,
        _: &TtrpcContext,
        request: HandshakeRequest,
    ) -> ttrpc::Result<HandshakeResponse> {
        Ok(self.shake(&request)?)
    }

    async fn configure_network(
        &self,
        _: &TtrpcContext,
        request: ConfigureNetworkRequest,
    ) -> ttrpc::Result<Empty> {
        self.check_handshake()?;
        self.network.configure(&request).map_err(CallError::from)?;
        Ok(Empty::default())
    }

    async fn listeners(
        &self,
        _: &TtrpcContext,
        request: ListenersRequest,
    ) -> ttrpc::Result<ListenersResponse> {
        self.check_handshake()?;
        let listening = self.listeners.other_than(request.generation);
        Ok(listening.await.map_err(CallError::io("list the sockets that listen"))?)
    }

    async fn create_container(
        &self,
        _: &TtrpcContext,
        request: CreateContainerRequest,
    ) -> ttrpc::Result<CreateContainerResponse> {
        let pid = self.create(request).await?;
        Ok(CreateContainerResponse { pid, ..Default::default() })
    }

    async fn start_container(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<StartResponse> {
        let container = self.container(&request.container_id)?;
        container.start()?;
        Ok(StartResponse { pid: container.init().pid(), ..Default::default() })
    }

    async fn state(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<StateResponse> {
        Ok(state(&*self.container(&request.container_id)?))
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let container = self.container(&request.container_id)?;
        check_signal(request.signal).map_err(CallError::from)?;
        container.kill(&request.exec_id, request.signal, request.all)?;
        Ok(Empty::default())
    }

    async fn wait(&self, _: &TtrpcContext, request: ProcessRequest) -> ttrpc::Result<WaitResponse> {
        let container = self.container(&request.container_id)?;
        let process = container.process(&request.exec_id)?;
        let exit = exit_of(process.exit()).await;
        let (exited_seconds, exited_nanos) = timestamp(exit.at);
        Ok(WaitResponse {
            exit_status: exit.status,
            exited_seconds,
            exited_nanos,
            oom_killed: container.oom_killed(),
            ..Default::default()
        })
    }

    async fn pids(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<PidsResponse> {
        let container = self.container(&request.container_id)?;
        let pids = container.cgroup().pids().map_err(CallError::from)?;
        let pids: Vec<u32> =
            pids.iter().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect();
        let first = container.process("").map_or(0, |process| process.pid());
        let first = if pids.contains(&first) { first } else { 0 };
        Ok(PidsResponse { pids, first, ..Default::default() })
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: ResizePtyRequest,
    ) -> ttrpc::Result<Empty> {
        self.resize(&request)?;
        Ok(Empty::default())
    }

    async fn exec_process(
        &self,
        _: &TtrpcContext,
        request: ExecProcessRequest,
    ) -> ttrpc::Result<ExecProcessResponse> {
        let pid = self.exec(request).await?;
        Ok(ExecProcessResponse { pid, ..Default::default() })
    }

    async fn delete_process(
        &self,
        _: &TtrpcContext,
        request: ProcessRequest,
    ) -> ttrpc::Result<Empty> {
        self.container(&request.container_id)?.forget(&request.exec_id)?;
        Ok(Empty::default())
    }

    async fn pause_container(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.container(&request.container_id)?.pause().await?;
        Ok(Empty::default())
    }

    async fn resume_container(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.container(&request.container_id)?.resume().await?;
        Ok(Empty::default())
    }

    async fn update_container(
        &self,
        _: &TtrpcContext,
        request: UpdateContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.container(&request.container_id)?.update(&request.resources)?;
        Ok(Empty::default())
    }

    async fn stats(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<StatsResponse> {
        let container = self.container(&request.container_id)?;
        Ok(StatsResponse { files: stats::of(container.cgroup()), ..Default::default() })
    }

    async fn oom_kills(
        &self,
        _: &TtrpcContext,
        request: OomKillsRequest,
    ) -> ttrpc::Result<OomKillsResponse> {
        let container = self.container(&request.container_id)?;
        let count = tokio::select! {
            count = container.cgroup().oom_kills_other_than(request.seen) => {
                count.map_err(CallError::from)?
            }
            _ = exit_of(container.init().exit()) => container.cgroup().oom_kills(),
        };
        Ok(OomKillsResponse { count, ..Default::default() })
    }

    async fn delete_container(
        &self,
        _: &TtrpcContext,
        request: ContainerRequest,
    ) -> ttrpc::Result<Empty> {
        self.delete(&request.container_id).await?;
        Ok(Empty::default())
    }

    async fn shutdown(&self, _: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        self.check_handshake()?;
        for container in self.table.all() {
            // Those that cannot be killed end with the guest.
            let _ = container.cgroup().kill();
        }
        // Another thread, because a dead share would block this one for ever.
        let sync = tokio::task::spawn_blocking(rustix::fs::sync);
        let _ = tokio::time::timeout(SYNC_TIMEOUT, sync).await;
        self.shutdown.notify_one();
        Ok(Empty::default())
    }
}
