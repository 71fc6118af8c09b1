//! Starting the processes of a sandbox.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sandbox_agent_protocol::{AGENT_PORT, FORWARD_PORT, GUEST_CID, SHARE_TAG};
use sandbox_vm_spec::VmSpec;
use sandbox_vm_spec::devices::{DEVICES, DeviceKind, Server};
use sandbox_vm_spec::launch::{FsLaunch, IoLaunch, Launch, Report, VmEnd};
use sandbox_vm_spec::network::NetworkLaunch;
use tokio::net::UnixListener;
use tokio::task::spawn_blocking;
use tracing::Instrument;

use super::Holdings;
use super::progress::{Progress, Stage};
use super::verdict::{Notes, Rank, judge};
use crate::cgroup::{self, Cgroup, CgroupError};
use crate::cleanup::remove_locked;
use crate::config::Config;
use crate::control::Control;
use crate::disks::Disks;
use crate::end::EndSignal;
use crate::engine::{self, Chosen, EngineError, Inherited, Parts};
use crate::failure::ErrorKind;
use crate::id::PodId;
use crate::kill_point;
use crate::network::{AUDIT_MAX, Files as NetworkFiles, Network, NetworkError, Plan, SetUpError};
use crate::pod_directory::{PodDirectory, PodDirectoryError};
use crate::pod_spec::PodSpec;
use crate::process::{HostProcess, ProcessId};
use crate::size::{self, SizeError};
use crate::state::{Description, Member, State};

/// A sandbox whose processes could not be started.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(
        "cannot open the guest's {what} {path}: install it there, or set `{what}` in the \
         configuration", path = path.display()
    )]
    Image { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Directory(#[from] PodDirectoryError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("cannot start `{program} {process}`", program = program.display())]
    Process { program: PathBuf, process: &'static str, source: io::Error },
    #[error("cannot write {path}", path = path.display())]
    State { path: PathBuf, source: io::Error },
    /// A task of this process panicked or was cancelled.
    #[error("cannot start the sandbox: the task was cancelled")]
    Cut(#[source] io::Error),
}

impl From<SetUpError> for LaunchError {
    fn from(error: SetUpError) -> Self {
        match error {
            SetUpError::Directory(error) => Self::Directory(error),
            SetUpError::Network(error) => Self::Network(error),
        }
    }
}

impl LaunchError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Size(e) => e.kind(),
            Self::Engine(_) | Self::Image { .. } => ErrorKind::FailedPrecondition,
            Self::Directory(e) => e.kind(),
            Self::Cgroup(e) => e.kind(),
            Self::Network(e) => e.kind(),
            Self::Process { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::FailedPrecondition
            }
            Self::State { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Process { .. } | Self::State { .. } | Self::Cut(_) => ErrorKind::Internal,
        }
    }
}

/// A sandbox whose processes run and whose guest boots.
pub(crate) struct Launched {
    pub holdings: Holdings,
    /// The io process: the one in the pod's network namespace.
    pub pid: u32,
    pub network: Network,
    pub notes: Notes,
    pub ended: EndSignal,
    pub progress: Arc<Progress>,
    /// How long the boot may take.
    pub limit: Duration,
    /// Where the guest's agent will connect.
    pub agent: UnixListener,
}

/// Everything that exists before any process runs.
struct Prepared {
    vm: VmSpec,
    chosen: Chosen,
    state: State,
    holdings: Holdings,
    plan: Plan,
}

/// Files for the engine.
struct Files {
    kernel: File,
    initramfs: File,
    console: File,
    io: IoFiles,
}

/// Descriptors for the `io` process.
struct IoFiles {
    network: NetworkFiles,
    disks: OwnedFd,
}

/// A process that was started, and its control socket.
struct Started {
    role: &'static str,
    process: Arc<HostProcess>,
    control: Control,
}

/// Starts all processes at once: each waits for its peers itself.
pub(crate) async fn launch(
    config: &Arc<Config>,
    id: &PodId,
    spec: &PodSpec,
) -> Result<Launched, LaunchError> {
    let progress = Arc::new(Progress::begin());
    let (prepared, files) = {
        let (config, id, spec) = (Arc::clone(config), id.clone(), spec.clone());
        blocking(move || prepare(&config, &id, &spec)).await?
    };
    let agent = listener(prepared.directory()?)?;
    let started = start(config, &prepared, files).await?;
    kill_point::reach("boot: processes");
    let limit = config.boot_timeout() + prepared.chosen.allowance(prepared.vm.vcpus.into());
    let network = prepared.network()?;
    let Prepared { mut holdings, mut state, .. } = prepared;
    for Started { role, process, .. } in &started {
        holdings.processes.push(Arc::clone(process));
        let (role, process) = ((*role).to_owned(), process.id());
        state.processes.push(Member { role, process });
    }
    let holdings = blocking(move || write(&state, holdings)).await?;
    kill_point::reach("boot: all is known");

    let (notes, ended) = judge(holdings.processes.clone());
    let pid = started.iter().find(|one| one.role == "io").map_or(0, |io| io.process.id().pid);
    for started in started {
        let watch = watch(started, notes.clone(), Arc::clone(&progress));
        tokio::spawn(watch.in_current_span());
    }
    Ok(Launched { holdings, pid, network, notes, ended, progress, limit, agent })
}

/// Starts the engine and the processes of its devices at the same time.
async fn start(
    config: &Config,
    prepared: &Prepared,
    files: Files,
) -> Result<[Started; 3], LaunchError> {
    let cgroup = prepared.holdings.cgroup.clone().unwrap_or_default();
    let directory = prepared.directory()?;
    let (mut io_devices, mut fs_devices, mut engine_devices) = (vec![], vec![], vec![]);
    for device in &DEVICES {
        let (listener, engine) = directory.wire(&format!("{}.vhost", device.name))?;
        let devices = match device.server {
            Server::Io => &mut io_devices,
            Server::Fs => &mut fs_devices,
        };
        devices.push((device.kind, listener.into()));
        engine_devices.push((device.kind, engine.into()));
    }
    let parts = Parts {
        sandbox: prepared.state.pod.id.clone(),
        kernel: files.kernel,
        initramfs: files.initramfs,
        console: files.console,
        devices: engine_devices,
        link: prepared.plan.link(),
        cgroup: cgroup.clone(),
    };
    let engine = prepared.chosen.engine.as_ref();
    let name = engine.name();
    let started = |role, outcome: io::Result<(HostProcess, Control)>| match outcome {
        Ok((process, control)) => Ok(Started { role, process: Arc::new(process), control }),
        Err(source) => {
            let program = config.vmm.clone();
            Err(LaunchError::Process { program, process: role, source })
        }
    };
    let (io, fs, vm) = tokio::join!(
        start_io(&config.vmm, prepared, &cgroup, io_devices, files.io),
        start_fs(&config.vmm, prepared, &cgroup, fs_devices, name == "kvm"),
        engine.boot(&prepared.vm, parts),
    );
    let vm = vm.map(|vm| (vm.process, vm.control));
    Ok([started(name, vm)?, started("io", io)?, started("fs", fs)?])
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LaunchError> + Send + 'static,
) -> Result<T, LaunchError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LaunchError::Cut(io::Error::other(error))),
    }
}

/// Refuses what can be refused before anything exists, then creates the
/// directory and the state.
fn prepare(config: &Config, id: &PodId, spec: &PodSpec) -> Result<(Prepared, Files), LaunchError> {
    let plan = Plan::make(&config.network, id, spec)?;
    let vm = size::vm_spec(config, spec)?;
    size::check_host(&vm)?;
    let cgroup = match spec.cgroups_path.as_deref() {
        None | Some("") => Path::new("sandbox").join(id.directory()),
        Some(path) => cgroup::relative_path(path)?,
    };
    let kernel = image("kernel", &config.kernel)?;
    let initramfs = image("initramfs", &config.initramfs)?;
    let chosen = engine::choose(config)?;
    tracing::info!("sandbox {id} runs on {}: {}", chosen.name(), chosen.reason);
    let mut holdings = Holdings::default();
    let directory =
        holdings.directory.insert(PodDirectory::create(&config.state_dir, id, remove_locked)?);
    kill_point::reach("boot: a folder");
    let console = directory.set_up()?;
    let network = plan.set_up(directory, config.network.audit_dir.as_deref(), id)?;
    holdings.cgroup = make_cgroup(&cgroup);
    let mut state = first_state(id, spec, &vm, &chosen, holdings.cgroup.as_ref())?;
    plan.mode().as_str().clone_into(&mut state.pod.network);
    let mut holdings = write(&state, holdings)?;
    kill_point::reach("boot: a state");
    let (disks, requests) = Disks::pair().map_err(LaunchError::Cut)?;
    holdings.disks = Some(disks);
    let files = Files { kernel, initramfs, console, io: IoFiles { network, disks: requests } };
    Ok((Prepared { vm, chosen, state, holdings, plan }, files))
}

/// The state with the shim alone: the cleanup finds what exists from here on.
fn first_state(
    id: &PodId,
    spec: &PodSpec,
    vm: &VmSpec,
    chosen: &Chosen,
    cgroup: Option<&Cgroup>,
) -> Result<State, LaunchError> {
    let shim = ProcessId::of(std::process::id()).map_err(LaunchError::Cut)?;
    let mut state = State::new(Description {
        namespace: id.namespace().to_owned(),
        id: id.id().to_owned(),
        bundle: spec.bundle.clone(),
        engine: chosen.name().to_owned(),
        engine_reason: chosen.reason.clone(),
        vcpus: vm.vcpus,
        memory_mib: vm.memory_mib,
        started: seconds_now(),
        network: String::new(),
    });
    state.processes.push(Member { role: "shim".to_owned(), process: shim });
    state.cgroups = cgroup.map(|cgroup| cgroup.created().to_vec()).unwrap_or_default();
    Ok(state)
}

fn write(state: &State, holdings: Holdings) -> Result<Holdings, LaunchError> {
    if let Some(directory) = &holdings.directory {
        let path = directory.state();
        state.write(&path).map_err(|source| LaunchError::State { path, source })?;
    }
    Ok(holdings)
}

impl Prepared {
    fn directory(&self) -> Result<&PodDirectory, LaunchError> {
        let gone = || LaunchError::Cut(io::ErrorKind::NotFound.into());
        self.holdings.directory.as_ref().ok_or_else(gone)
    }

    fn network(&self) -> Result<Network, LaunchError> {
        let directory = self.directory()?;
        Ok(Network::new(self.plan.clone(), directory.network(), directory.resolv_conf()))
    }
}

/// A sandbox runs without a cgroup, too: the host may not allow one.
fn make_cgroup(path: &Path) -> Option<Cgroup> {
    match Cgroup::create(path) {
        Ok(cgroup) => Some(cgroup),
        Err(error) => {
            tracing::warn!("the sandbox runs without a cgroup: {error}");
            None
        }
    }
}

fn image(what: &'static str, path: &Path) -> Result<File, LaunchError> {
    File::open(path).map_err(|source| LaunchError::Image { what, path: path.to_owned(), source })
}

/// Binds the socket that the agent connects to, before the guest exists.
fn listener(directory: &PodDirectory) -> Result<UnixListener, LaunchError> {
    let listener = directory.listen(&directory.agent_socket())?;
    listener.set_nonblocking(true).map_err(LaunchError::Cut)?;
    UnixListener::from_std(listener).map_err(LaunchError::Cut)
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn start_io(
    vmm: &Path,
    prepared: &Prepared,
    cgroup: &Cgroup,
    devices: Vec<(DeviceKind, OwnedFd)>,
    files: IoFiles,
) -> io::Result<(HostProcess, Control)> {
    let directory = prepared.directory().map_err(io::Error::other)?;
    let listener = directory.listen(&directory.vsock()).map_err(io::Error::other)?;
    let IoFiles { network, disks } = files;
    let mut fds = Inherited::default();
    let network = NetworkLaunch {
        namespace: fds.add(prepared.plan.namespace().fd()?),
        outside: prepared
            .plan
            .outside()
            .map(|outside| Ok::<_, io::Error>(fds.add(outside.fd()?)))
            .transpose()?,
        listener: fds.add(network.listener.into()),
        audit: network.audit.map(|file| fds.add(file.into())),
        audit_max: AUDIT_MAX,
        pod: prepared.state.pod.id.clone(),
        link: prepared.plan.link(),
        forward_port: FORWARD_PORT,
    };
    let launch = Launch::Io(IoLaunch {
        sandbox: prepared.state.pod.id.clone(),
        devices: fds.sockets(devices),
        cid: GUEST_CID,
        sockets: directory.sockets(),
        listener: fds.add(listener.into()),
        guest_ports: vec![AGENT_PORT],
        network: Some(network),
        disks: Some(fds.add(disks)),
    });
    fds.launch(vmm, "io", &launch, cgroup).await
}

async fn start_fs(
    vmm: &Path,
    prepared: &Prepared,
    cgroup: &Cgroup,
    devices: Vec<(DeviceKind, OwnedFd)>,
    config: bool,
) -> io::Result<(HostProcess, Control)> {
    let directory = prepared.directory().map_err(io::Error::other)?;
    let mut fds = Inherited::default();
    let launch = Launch::Fs(FsLaunch {
        sandbox: prepared.state.pod.id.clone(),
        devices: fds.sockets(devices),
        tag: SHARE_TAG.to_owned(),
        config,
        share: directory.share(),
    });
    fds.launch(vmm, "fs", &launch, cgroup).await
}

/// Reads the reports of a process until it has ended.
async fn watch(started: Started, notes: Notes, progress: Arc<Progress>) {
    let Started { role, process, mut control } = started;
    let engine = !matches!(role, "io" | "fs");
    if engine {
        progress.reach(Stage::Engine, &format!("{role} started"));
    }
    let mut words = None;
    loop {
        match control.report().await {
            Ok(Some(Report::Ready)) if engine => {
                progress.reach(Stage::Running, "the guest's CPUs run")
            }
            Ok(Some(Report::Ready)) => progress.reach(Stage::Devices, &format!("{role} serves")),
            Ok(Some(Report::Stage { name, .. })) => {
                progress.reach(Stage::Engine, &name.chars().take(80).collect::<String>())
            }
            Ok(Some(Report::Ended { end })) => words = Some(describe(end)),
            Ok(Some(Report::Failed { error })) => words = Some(error),
            Ok(None) => break,
            Err(error) => {
                tracing::warn!("invalid report of {role}, killing it: {error}");
                process.kill();
                break;
            }
        }
    }
    let how = process.exited().await;
    let reason = match words {
        Some(words) => format!("{role}: {words}"),
        None => format!("{role} {how}"),
    };
    notes.note(if engine { Rank::Engine } else { Rank::Backend }, reason);
}

fn describe(end: VmEnd) -> String {
    match end {
        VmEnd::Reset => "the guest reset or powered off its machine".to_owned(),
        VmEnd::TripleFault => "the guest's CPU shut down by a triple fault".to_owned(),
        VmEnd::Error(error) => error,
    }
}
