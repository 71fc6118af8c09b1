mod container_hooks;
mod exec;
mod host_side;
mod lifecycle;
mod member;
mod run;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{RwLock, mpsc, watch};
use tokio::task::spawn_blocking;
use tracing::Instrument;

use crate::agent::{Agent, AgentError, Pids};
use crate::config::Config;
use crate::container::{CreateContainer, Pid, ProcessState, Status};
use crate::end::EndSignal;
use crate::error::Error;
use crate::event::{Events, Exit, PodEvent};
use crate::failure::ErrorKind;
use crate::id::{PodId, ProcessRef, check_container};
use crate::kill_point;
use crate::machine::{Boot, BootError, Launched, Notes, Rank, boot, launch};
use crate::network::{ClientError, Network, NetworkError};
use crate::pod_spec::PodSpec;
use crate::stdio::HostStreams;
use container_hooks::ContainerHooks;
use exec::Exec;
use host_side::{GuestInput, HostSide, Prepared, SharedHoldings};
use lifecycle::{Lifecycle, killed};
use member::{Member, watch_exit, watch_oom};

/// SIGKILL: a sandbox that cannot deliver it is dead itself.
const SIGKILL: u32 = 9;
/// Upper bound of the host's pids (`PID_MAX_LIMIT`).
const HOST_PIDS: u32 = 1 << 22;

/// A running sandbox. Clones are handles of the same one; when the last is
/// dropped, everything that the pod created on the host is removed.
#[derive(Clone)]
pub struct Pod {
    inner: Arc<Inner>,
}

struct Inner {
    id: PodId,
    pid: u32,
    vsock: std::path::PathBuf,
    sysctls: HashMap<String, String>,
    network: Network,
    held: SharedHoldings,
    notes: Notes,
    ended: EndSignal,
    booted: watch::Receiver<Option<Result<Agent, Arc<BootError>>>>,
    members: Mutex<HashMap<String, Slot>>,
    events: mpsc::UnboundedSender<PodEvent>,
}

/// What an id stands for.
#[derive(Clone)]
enum Slot {
    /// Create is under way: other calls do not find the container.
    Creating,
    /// The container exists.
    Present(Arc<Member>),
}

impl Pod {
    /// Starts the processes of a sandbox and returns while the guest boots.
    /// A failure leaves nothing behind. Must be called within tokio.
    pub async fn create(config: Config, id: PodId, spec: PodSpec) -> Result<(Self, Events), Error> {
        let config = Arc::new(config);
        let launched = launch(&config, &id, &spec).await?;
        let (events, receiver) = mpsc::unbounded_channel();
        let hostname = if spec.hostname.is_empty() { id.id() } else { &spec.hostname };
        let inner = Inner::new(&id, hostname, spec.sysctls.clone(), launched, events);
        Ok((Self { inner: Arc::new(inner) }, receiver))
    }

    /// Its id.
    pub fn id(&self) -> &PodId {
        &self.inner.id
    }

    /// The process on this host that stands for the sandbox: it lives as long
    /// as the sandbox does.
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// Waits until the guest's agent answers. The error names the last stage of
    /// the boot and quotes the end of the console; call [`Pod::shutdown`] then.
    pub async fn ready(&self) -> Result<(), Error> {
        self.inner.agent().await.map(drop)
    }

    /// Creates a container: mounts its root file system, waits for the guest,
    /// and lets the agent prepare its first process. Returns its pid. A failure
    /// leaves nothing of the container behind.
    pub async fn create_container(&self, create: CreateContainer) -> Result<u32, Error> {
        check_container(&create.id)?;
        let reserved = Reserved::take(&self.inner, &create.id)?;
        let member = self.inner.make(create).await?;
        reserved.fill(Arc::clone(&member));
        Ok(member.pid)
    }

    /// Starts the first process of a container, or an exec. Returns its pid when
    /// it has become its program.
    pub async fn start(&self, process: &ProcessRef) -> Result<u32, Error> {
        let process = self.inner.process(process)?;
        match &process {
            Process::Init(member) => self.inner.start_init(member).await?,
            Process::Exec(member, exec) => self.inner.start_exec(member, exec).await?,
        }
        Ok(self.pid())
    }

    /// The state of a process.
    pub async fn state(&self, process: &ProcessRef) -> Result<ProcessState, Error> {
        Ok(match self.inner.process(process)? {
            Process::Init(member) => member.state(),
            Process::Exec(member, exec) => exec.state(member.bundle.clone()),
        })
    }

    /// Ids of the containers that are not deleted.
    pub fn containers(&self) -> Vec<String> {
        self.inner.members.lock().keys().cloned().collect()
    }

    /// Sends a signal. NotFound once the process has ended.
    pub async fn kill(&self, process: &ProcessRef, signal: u32, all: bool) -> Result<(), Error> {
        let found = self.inner.process(process)?;
        if let Process::Exec(_, exec) = &found {
            exec.life.check(|is| is != Status::Created, "started")?;
        }
        let finished = || Error::Finished(process.clone());
        if found.life().exit().is_some() {
            return Err(finished());
        }
        // An exec is one process.
        let all = all && process.exec.is_none();
        let sent = self.inner.call(async |agent| agent.kill(process, signal, all).await);
        match sent.await {
            Err(Error::Agent(AgentError::Timeout { .. })) if signal == SIGKILL => {
                let reason = "the guest hangs: its agent did not answer a SIGKILL".to_owned();
                self.inner.notes.note(Rank::Requested, reason);
                self.inner.ended.wait().await;
                Ok(())
            }
            // The process ended with the sandbox.
            Err(Error::Ended { .. }) => Err(finished()),
            other => other,
        }
    }

    /// Freezes every process of a container.
    pub async fn pause(&self, container: &str) -> Result<(), Error> {
        let member = self.inner.member(container)?;
        let _turn = member.life.turn().await;
        member.life.check(|is| is == Status::Running, "running")?;
        self.inner.call(async |agent| agent.pause(container).await).await?;
        member.life.pause();
        Ok(())
    }

    /// Thaws them.
    pub async fn resume(&self, container: &str) -> Result<(), Error> {
        let member = self.inner.member(container)?;
        let _turn = member.life.turn().await;
        member.life.check(|is| is == Status::Paused, "paused")?;
        self.inner.call(async |agent| agent.resume(container).await).await?;
        member.life.resume();
        Ok(())
    }

    /// Changes limits: all of `resources`, which are the `linux.resources` of an
    /// OCI runtime spec as JSON, or none.
    pub async fn update(&self, container: &str, resources: Vec<u8>) -> Result<(), Error> {
        let member = self.inner.member(container)?;
        let _turn = member.life.turn().await;
        member.life.check(|is| is != Status::Stopped, "running")?;
        self.inner.call(async |agent| agent.update(container, resources).await).await
    }

    /// Files of the container's cgroup, by name. Readable until the container is
    /// deleted: after the sandbox's end, with their last known content.
    pub async fn stats(&self, container: &str) -> Result<Arc<HashMap<String, String>>, Error> {
        let member = self.inner.member(container)?;
        match self.inner.call(async |agent| agent.stats(container).await).await {
            Ok(files) => {
                let files = Arc::new(files);
                member.set_usage(Arc::clone(&files));
                Ok(files)
            }
            Err(Error::Ended { .. }) => Ok(member.usage()),
            Err(error) => Err(error),
        }
    }

    /// Waits for the exit of a process; every call returns the same.
    pub async fn wait(&self, process: &ProcessRef) -> Result<Exit, Error> {
        Ok(self.inner.process(process)?.life().wait().await)
    }

    /// Removes a container or an exec that has ended or never was started, and
    /// returns its exit. All that it wrote before its end is with containerd by
    /// then.
    pub async fn delete(&self, process: &ProcessRef) -> Result<Exit, Error> {
        match self.inner.process(process)? {
            Process::Init(member) => self.inner.delete_container(&member).await,
            Process::Exec(member, exec) => self.inner.delete_exec(&member, &exec).await,
        }
    }

    /// Processes of a container, never empty: once there are none, [`Pod::pid`]
    /// stands for them. The first process has that number, as it has everywhere
    /// else, the others have the guest's, beyond what the host has: `docker top`
    /// looks for them there.
    pub async fn pids(&self, container: &str) -> Result<Vec<Pid>, Error> {
        let member = self.inner.member(container)?;
        let pids = match self.inner.call(async |agent| agent.pids(container).await).await {
            Ok(pids) => pids,
            Err(Error::Ended { .. }) => Pids::default(),
            Err(error) => return Err(error),
        };
        let own = Pid { number: self.inner.pid, exec: None };
        if pids.numbers.is_empty() {
            return Ok(vec![own]);
        }
        let execs = member.execs.all();
        let exec_of = |number: u32| {
            let mut running = execs.iter().filter(|exec| exec.life.exit().is_none());
            let exec = running.find(|exec| exec.guest_pid() == Some(number))?;
            exec.life.process().exec.clone()
        };
        let pid = |number: u32| match number {
            first if first == pids.first => own.clone(),
            number => Pid { number: number.saturating_add(HOST_PIDS), exec: exec_of(number) },
        };
        Ok(pids.numbers.iter().copied().map(pid).collect())
    }

    /// Ends the standard input of a process, after all that was written to the
    /// FIFO before.
    pub async fn close_stdin(&self, process: &ProcessRef) -> Result<(), Error> {
        match self.inner.process(process)? {
            Process::Init(member) => member.streams.close_stdin(),
            Process::Exec(_, exec) => exec.close_stdin(),
        }
        Ok(())
    }

    /// Sets the size of a process's terminal.
    pub async fn resize(&self, process: &ProcessRef, width: u32, height: u32) -> Result<(), Error> {
        if let Process::Exec(_, exec) = self.inner.process(process)?
            && exec.keep_size(width, height)
        {
            return Ok(());
        }
        self.inner.call(async |agent| agent.resize(process, width, height).await).await
    }

    /// Returns when the sandbox has ended, with the reason.
    pub async fn ended(&self) -> String {
        self.inner.ended.wait().await.to_string()
    }

    /// Ends the sandbox and removes all it made on the host. Containers that
    /// ran exit with 137. Can be called again.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        let agent = inner.booted.borrow().clone();
        if let Some(Ok(agent)) = agent
            && inner.ended.reason().is_none()
        {
            // Has a timeout; the kill below reaches a guest that hangs.
            let _ = agent.shutdown().await;
        }
        kill_point::reach("end: in the guest");
        inner.notes.note(Rank::Requested, "it was shut down".to_owned());
        inner.ended.wait().await;
        kill_point::reach("end: of the processes");
        let held = Arc::clone(&inner.held).write_owned().await.take();
        let _ = spawn_blocking(move || drop(held)).await;
        kill_point::reach("end: of all");
    }
}

impl Inner {
    fn new(
        id: &PodId,
        hostname: &str,
        sysctls: HashMap<String, String>,
        launched: Launched,
        events: mpsc::UnboundedSender<PodEvent>,
    ) -> Self {
        let Launched { holdings, pid, network, notes, ended, progress, limit, agent: listener } =
            launched;
        let paths = holdings.directory.as_ref().map(|f| (f.vsock(), f.agent_socket(), f.console()));
        let (vsock, socket, console) = paths.unwrap_or_default();
        let (sender, booted) = watch::channel(None);
        let (hostname, name) = (hostname.to_owned(), id.clone());
        let (boot_notes, boot_ended) = (notes.clone(), ended.clone());
        tokio::spawn(async move {
            let outcome = boot(Boot {
                listener,
                socket: &socket,
                console: &console,
                hostname: &hostname,
                limit,
                progress: Arc::clone(&progress),
                notes: boot_notes,
                ended: boot_ended.clone(),
            });
            match outcome.await {
                Ok((agent, answer)) => {
                    tracing::info!(
                        "sandbox {name} booted in {} ms: Linux {}, {} vCPUs, {} MiB",
                        progress.elapsed().as_millis(),
                        answer.kernel_release.escape_default(),
                        answer.vcpus,
                        answer.memory_bytes >> 20,
                    );
                    sender.send_replace(Some(Ok(agent)));
                    let reason = boot_ended.wait().await;
                    let tail = crate::console::quote(&console);
                    tracing::info!("sandbox {name} has ended: {reason}; {tail}");
                }
                Err(error) => {
                    sender.send_replace(Some(Err(Arc::new(error))));
                }
            }
            // The sender stays, so that a later wait returns the same result.
            sender.closed().await;
        });
        Self {
            id: id.clone(),
            pid,
            vsock,
            sysctls,
            network,
            held: Arc::new(RwLock::new(Some(holdings))),
            notes,
            ended,
            booted,
            members: Mutex::default(),
            events,
        }
    }

    /// The agent, once the guest has booted.
    async fn agent(&self) -> Result<Agent, Error> {
        let mut booted = self.booted.clone();
        let outcome = booted.wait_for(Option::is_some).await.ok().and_then(|b| b.clone());
        match outcome {
            Some(Ok(agent)) => match self.ended.reason() {
                None => Ok(agent),
                Some(_) => Err(self.gone()),
            },
            Some(Err(error)) => Err(Error::Boot(error)),
            None => Err(self.gone()),
        }
    }

    /// A call to the agent, cut off by the sandbox's end.
    async fn call<T>(
        &self,
        call: impl AsyncFnOnce(Agent) -> Result<T, AgentError>,
    ) -> Result<T, Error> {
        let agent = self.agent().await?;
        tokio::select! {
            answer = call(agent) => match answer {
                Err(AgentError::Lost { .. }) => {
                    self.ended.wait().await;
                    Err(self.gone())
                }
                answer => Ok(answer?),
            },
            _ = self.ended.wait() => Err(self.gone()),
        }
    }

    fn gone(&self) -> Error {
        let reason = self.ended.reason().map_or("it was dropped".to_owned(), |r| r.to_string());
        Error::Ended { pod: self.id.to_string(), reason }
    }

    async fn make(&self, create: CreateContainer) -> Result<Arc<Member>, Error> {
        let Prepared { side, guest, hooks } = self.prepare(create.clone()).await?;
        if hooks.has_create() {
            // The hooks find the namespace by the pid of the `io` process.
            self.in_network(self.network.entered()).await?;
        }
        kill_point::reach("create: on the host");
        hooks.created(self.pid).await?;
        let made = self.make_inside(create, side, guest, hooks.clone()).await;
        if made.is_err() {
            hooks.stopped().await;
        }
        made
    }

    /// Creates the container in the guest.
    async fn make_inside(
        &self,
        create: CreateContainer,
        side: HostSide,
        guest: GuestInput,
        hooks: ContainerHooks,
    ) -> Result<Arc<Member>, Error> {
        if !self.network.is_set_up_later() {
            self.set_network().await?;
        }
        let opened = HostStreams::open(&create.id, &create.stdio, self.id.namespace()).await?;
        kill_point::reach("create: streams");
        let agent = self.agent().await?;
        let made = CreateGuard { agent: Some(agent.clone()), container: create.id.clone() };
        let wanted = opened.wanted();
        let GuestInput { spec, rootfs } = guest;
        self.call(async |agent| agent.create(&create.id, spec, rootfs, wanted).await).await?;
        kill_point::reach("create: in the guest");
        let streams = opened.attach(&self.vsock, &ProcessRef::init(&create.id)).await?;
        made.keep();
        let member = Arc::new(Member::new(create, self.pid, streams, side, hooks));
        let (ended, events) = (self.ended.clone(), self.events.clone());
        let of_oom = watch_oom(member.clone(), agent.clone(), ended.clone(), events.clone());
        tokio::spawn(of_oom.in_current_span());
        tokio::spawn(watch_exit(Arc::clone(&member), agent, ended, events).in_current_span());
        Ok(member)
    }

    /// Sends the network's settings to the `io` process and to the guest. Once
    /// for each pod.
    async fn set_network(&self) -> Result<(), Error> {
        self.in_network(self.network.configure()).await?;
        self.call(async |agent| self.network.configure_guest(&agent, &self.ended).await).await
    }

    /// Awaits a call about the network. The sandbox's end cancels it: that error
    /// explains more than a closed socket.
    async fn in_network<T>(
        &self,
        work: impl Future<Output = Result<T, NetworkError>>,
    ) -> Result<T, Error> {
        tokio::select! {
            answer = work => match answer {
                Err(NetworkError::Client(ClientError::Connect { .. } | ClientError::Silent { .. }))
                    if self.ended.reason().is_some() => Err(self.gone()),
                answer => Ok(answer?),
            },
            _ = self.ended.wait() => Err(self.gone()),
        }
    }

    async fn prepare(&self, create: CreateContainer) -> Result<Prepared, Error> {
        let held = Arc::clone(&self.held);
        let locked = Arc::clone(&self.held).read_owned().await;
        let resolv_conf = self.network.resolv_conf().cloned();
        let sysctls = self.sysctls.clone();
        let prepared = spawn_blocking(move || {
            HostSide::prepare(held, &locked, &create, &sysctls, resolv_conf.as_deref())
        })
        .await;
        match prepared {
            Ok(prepared) => prepared?.ok_or_else(|| self.gone()),
            Err(_) => Err(self.gone()),
        }
    }

    async fn start_init(&self, member: &Member) -> Result<(), Error> {
        let _turn = member.life.turn().await;
        member.life.check(|is| is == Status::Created, "created")?;
        self.set_network().await?;
        kill_point::reach("start: a network");
        self.call(async |agent| agent.start(member.id()).await).await?;
        kill_point::reach("start: in the guest");
        member.life.run();
        member.hooks.started(member.pid).await;
        Ok(())
    }

    async fn delete_container(&self, member: &Arc<Member>) -> Result<Exit, Error> {
        let turn = member.life.turn().await;
        member.life.check(|is| !matches!(is, Status::Running | Status::Paused), "stopped")?;
        match self.call(async |agent| agent.delete(member.id()).await).await {
            Ok(()) | Err(Error::Ended { .. }) => {}
            Err(Error::Agent(AgentError::Refused { kind: ErrorKind::NotFound, .. })) => {}
            Err(error) => return Err(error),
        }
        kill_point::reach("delete: in the guest");
        member.life.stop(killed());
        member.streams.finish().await;
        member.execs.ended(&self.events).await;
        for exec in member.execs.all() {
            exec.drained().await;
            member.execs.remove(&exec);
        }
        let exit = member.life.delete(killed());
        drop(turn);
        member.hooks.stopped().await;
        let gone = Arc::clone(member);
        let _ = spawn_blocking(move || gone.release()).await;
        kill_point::reach("delete: on the host");
        self.members.lock().remove(member.id());
        Ok(exit)
    }

    fn member(&self, container: &str) -> Result<Arc<Member>, Error> {
        match self.members.lock().get(container) {
            Some(Slot::Present(member)) => Ok(Arc::clone(member)),
            Some(Slot::Creating) | None => Err(Error::NotFound(ProcessRef::init(container))),
        }
    }

    fn process(&self, process: &ProcessRef) -> Result<Process, Error> {
        let member = self.member(&process.container)?;
        if process.exec.is_none() {
            return Ok(Process::Init(member));
        }
        match member.execs.get(process) {
            Some(exec) => Ok(Process::Exec(member, exec)),
            None => Err(Error::NotFound(process.clone())),
        }
    }
}

/// What a [`ProcessRef`] stands for.
enum Process {
    Init(Arc<Member>),
    /// With its container.
    Exec(Arc<Member>, Arc<Exec>),
}

impl Process {
    fn life(&self) -> &Lifecycle {
        match self {
            Self::Init(member) => &member.life,
            Self::Exec(_, exec) => &exec.life,
        }
    }
}

/// Reserves an id until the container is created. Dropped, the id is free again.
struct Reserved<'a> {
    inner: &'a Inner,
    id: String,
}

impl<'a> Reserved<'a> {
    fn take(inner: &'a Inner, id: &str) -> Result<Self, Error> {
        let mut members = inner.members.lock();
        if members.contains_key(id) {
            return Err(Error::Exists(ProcessRef::init(id)));
        }
        members.insert(id.to_owned(), Slot::Creating);
        Ok(Self { inner, id: id.to_owned() })
    }

    fn fill(self, member: Arc<Member>) {
        let mut members = self.inner.members.lock();
        members.insert(self.id.clone(), Slot::Present(member));
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut members = self.inner.members.lock();
        if let Some(Slot::Creating) = members.get(&self.id) {
            members.remove(&self.id);
        }
    }
}

/// A container that the agent may have created. Dropped, it is deleted.
struct CreateGuard {
    agent: Option<Agent>,
    container: String,
}

impl CreateGuard {
    fn keep(mut self) {
        self.agent = None;
    }
}

impl Drop for CreateGuard {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            let container = std::mem::take(&mut self.container);
            // NotFound where the agent did not create it.
            tokio::spawn(async move { agent.delete(&container).await });
        }
    }
}
