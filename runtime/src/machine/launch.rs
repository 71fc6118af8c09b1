//! Starting the processes of a sandbox.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sandbox_agent_protocol::{AGENT_PORT, GUEST_CID, SHARE_TAG};
use sandbox_vm_spec::VmSpec;
use sandbox_vm_spec::launch::{DeviceKind, FsLaunch, IoLaunch, Launch, Report, VmEnd};
use tokio::net::UnixListener;
use tokio::task::spawn_blocking;

use super::Holdings;
use super::progress::{Progress, Stage};
use super::verdict::{Ended, Notes, Rank, judge};
use crate::cgroup::{self, Cgroup, CgroupError};
use crate::config::Config;
use crate::control::Control;
use crate::engine::{self, Chosen, EngineError, Inherited, Parts};
use crate::error::ErrorKind;
use crate::folder::{Folder, FolderError};
use crate::id::PodId;
use crate::pod::PodSpec;
use crate::process::{HostProcess, ProcessId};
use crate::size::{self, SizeError};
use crate::state::{Member, NewState, State};

/// A sandbox whose processes could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Its size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// Its engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file of the installation.
    #[error(
        "cannot open the guest's {what} {path}: install it there, or set `{what}` in the \
         configuration", path = path.display()
    )]
    Image {
        /// `kernel` or `initramfs`.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its cgroup's path.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A process.
    #[error("cannot start `{program} {process}`", program = program.display())]
    Process {
        /// The binary.
        program: PathBuf,
        /// Which process.
        process: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Its state.
    #[error("cannot write {path}", path = path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This process could not do what it should.
    #[error("the sandbox's start was cut off")]
    Cut(#[source] io::Error),
}

impl LaunchError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Size(e) => e.kind(),
            Self::Engine(_) | Self::Image { .. } => ErrorKind::FailedPrecondition,
            Self::Folder(e) => e.kind(),
            Self::Cgroup(e) => e.kind(),
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
    /// The engine's process.
    pub pid: u32,
    pub notes: Notes,
    pub ended: Ended,
    pub progress: Arc<Progress>,
    /// Where the guest's agent will connect.
    pub agent: UnixListener,
}

/// What is made before any process runs.
struct Prepared {
    vm: VmSpec,
    chosen: Chosen,
    kernel: File,
    initramfs: File,
    console: File,
    holdings: Holdings,
}

/// Starts all processes at once: each waits for the others by itself.
pub(crate) async fn launch(
    config: &Arc<Config>,
    id: &PodId,
    spec: &PodSpec,
) -> Result<Launched, LaunchError> {
    let progress = Arc::new(Progress::begin());
    let prepared = {
        let (config, id, spec) = (Arc::clone(config), id.clone(), spec.clone());
        blocking(move || prepare(&config, &id, &spec)).await?
    };
    let mut holdings = prepared.holdings;
    let (folder, cgroup) = (&holdings.folder, holdings.cgroup.clone().unwrap_or_default());
    let folder = folder.as_ref().ok_or_else(|| LaunchError::Cut(io::ErrorKind::NotFound.into()))?;

    let agent = folder.listen(&folder.agent_socket())?;
    let agent = listener(agent).map_err(LaunchError::Cut)?;
    let (rng, rng_engine) = folder.wire("rng")?;
    let (vsock, vsock_engine) = folder.wire("vsock.vu")?;
    let (fs, fs_engine) = folder.wire("fs")?;
    let parts = Parts {
        kernel: prepared.kernel,
        initramfs: prepared.initramfs,
        console: prepared.console,
        devices: vec![
            (DeviceKind::Rng, rng_engine.into()),
            (DeviceKind::Vsock, vsock_engine.into()),
            (DeviceKind::Fs, fs_engine.into()),
        ],
        cgroup: cgroup.clone(),
    };

    let engine = prepared.chosen.engine.as_ref();
    let name = engine.name();
    let failed = |process| {
        let program = config.vmm.clone();
        move |source| LaunchError::Process { program, process, source }
    };
    let (io, fs, vm) = tokio::join!(
        start_io(&config.vmm, folder, &cgroup, rng, vsock),
        start_fs(&config.vmm, folder, &cgroup, fs, name == "kvm"),
        engine.boot(&prepared.vm, parts),
    );
    let io = io.map_err(failed("io"));
    let fs = fs.map_err(failed("fs"));
    let vm = vm.map(|vm| (vm.process, vm.control)).map_err(failed(name));
    let mut members = Vec::new();
    for (role, started) in [(name, vm), ("io", io), ("fs", fs)] {
        let (process, control) = started?;
        let process = Arc::new(process);
        holdings.processes.push(Arc::clone(&process));
        members.push((role, process, control));
    }

    let state = State::new(NewState {
        namespace: id.namespace().to_owned(),
        id: id.id().to_owned(),
        bundle: spec.bundle.clone(),
        engine: name.to_owned(),
        engine_reason: prepared.chosen.reason.clone(),
        vcpus: prepared.vm.vcpus,
        memory_mib: prepared.vm.memory_mib,
        started: seconds_now(),
    });
    let pids: Vec<_> = members.iter().map(|(role, p, _)| (*role, p.id())).collect();
    let mut holdings = blocking(move || settle(holdings, state, &pids)).await?;

    let (notes, ended) = judge(holdings.processes.clone());
    let pid = members.first().map_or(0, |(_, process, _)| process.id().pid);
    for (role, process, control) in members {
        tokio::spawn(watch(role, process, control, notes.clone(), Arc::clone(&progress)));
    }
    holdings.processes.shrink_to_fit();
    Ok(Launched { holdings, pid, notes, ended, progress, agent })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LaunchError> + Send + 'static,
) -> Result<T, LaunchError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LaunchError::Cut(io::Error::other(error))),
    }
}

/// Everything that can be refused before something exists, then the folder.
fn prepare(config: &Config, id: &PodId, spec: &PodSpec) -> Result<Prepared, LaunchError> {
    let vm = size::vm_spec(config, spec)?;
    size::check_host(&vm)?;
    let cgroup = match spec.cgroups_path.as_deref() {
        None | Some("") => Path::new("sandbox").join(id.folder()),
        Some(path) => cgroup::relative_path(path)?,
    };
    let kernel = image("kernel", &config.kernel)?;
    let initramfs = image("initramfs", &config.initramfs)?;
    let chosen = engine::choose(config)?;
    tracing::info!("sandbox {id} runs on {}: {}", chosen.name(), chosen.reason);
    let mut holdings = Holdings::default();
    let folder = holdings.folder.insert(Folder::create(&config.state_dir, id)?);
    let console = folder.furnish()?;
    holdings.cgroup = make_cgroup(&cgroup);
    Ok(Prepared { vm, chosen, kernel, initramfs, console, holdings })
}

/// Without a cgroup a sandbox still runs: a user may have none to give.
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

fn listener(std: StdListener) -> io::Result<UnixListener> {
    std.set_nonblocking(true)?;
    UnixListener::from_std(std)
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn start_io(
    vmm: &Path,
    folder: &Folder,
    cgroup: &Cgroup,
    rng: StdListener,
    vsock: StdListener,
) -> io::Result<(HostProcess, Control)> {
    let listener = folder.listen(&folder.vsock()).map_err(io::Error::other)?;
    let mut fds = Inherited::default();
    let launch = Launch::Io(IoLaunch {
        rng: fds.add(rng.into()),
        vsock: fds.add(vsock.into()),
        cid: GUEST_CID,
        sockets: folder.sockets(),
        listener: fds.add(listener.into()),
        guest_ports: vec![AGENT_PORT],
    });
    fds.launch(vmm, "io", &launch, cgroup).await
}

async fn start_fs(
    vmm: &Path,
    folder: &Folder,
    cgroup: &Cgroup,
    listener: StdListener,
    config: bool,
) -> io::Result<(HostProcess, Control)> {
    let mut fds = Inherited::default();
    let launch = Launch::Fs(FsLaunch {
        listener: fds.add(listener.into()),
        tag: SHARE_TAG.to_owned(),
        config,
        share: folder.share(),
    });
    fds.launch(vmm, "fs", &launch, cgroup).await
}

/// Writes down what the shim's end would leave.
fn settle(
    holdings: Holdings,
    mut state: State,
    members: &[(&'static str, ProcessId)],
) -> Result<Holdings, LaunchError> {
    let shim = ProcessId::of(std::process::id()).map_err(LaunchError::Cut)?;
    state.processes.push(Member { role: "shim".to_owned(), process: shim });
    for (role, process) in members {
        state.processes.push(Member { role: (*role).to_owned(), process: *process });
    }
    if let Some(cgroup) = &holdings.cgroup {
        state.cgroups = cgroup.created().to_vec();
    }
    if let Some(folder) = &holdings.folder {
        let path = folder.state();
        state.write(&path).map_err(|source| LaunchError::State { path, source })?;
    }
    Ok(holdings)
}

/// Listens to a process until it has ended.
async fn watch(
    role: &'static str,
    process: Arc<HostProcess>,
    mut control: Control,
    notes: Notes,
    progress: Arc<Progress>,
) {
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
                tracing::warn!("{role} is not understood: {error}");
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
