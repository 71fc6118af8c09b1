//! The shim itself, in the background: serves containerd until its pod ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use cgroups_rs::CgroupPid;
use cgroups_rs::fs::{Cgroup, hierarchies};
use containerd_shim::Flags;
use containerd_shim::cgroup::adjust_oom_score;
use containerd_shim_protos::sandbox_async::create_sandbox;
use containerd_shim_protos::shim_async::create_task;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use sandbox_runtime::{IdError, PodId, ProcessId, chain, kill_point};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tracing::{Instrument, Span, error_span, info, warn};
use ttrpc::asynchronous::Server;
use ttrpc::asynchronous::transport::Listener;

use crate::bundle::Bundle;
use crate::outbox::Outbox;
use crate::sandbox::SandboxService;
use crate::service::Service;
use crate::sink::Containerd;
use crate::socket::ShimSocket;
use crate::task::TaskService;
use crate::trace;

/// What the shim writes to its starter once it serves.
pub const READY: &str = "ready";

/// Names a configuration file; the runtime reads it.
pub const CONFIG_VARIABLE: &str = "SANDBOX_CONFIG";

/// Names the cgroup for the shim.
pub const CGROUP_VARIABLE: &str = "SANDBOX_SHIM_CGROUP";

const TASK_V2: &str = "containerd.task.v2.Task";
const TASK_V3: &str = "containerd.task.v3.Task";

/// Threads of the service. One moves the containers' streams while another
/// answers containerd; more would only cost memory.
const WORKERS: usize = 2;

/// Threads for calls that block: mounts and removal of folders.
const BLOCKING_THREADS: usize = 8;

/// How long the last replies may take to reach containerd.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// A shim that cannot serve.
#[derive(Debug, Error)]
pub enum DaemonError {
    #[error(
        "no socket to serve: this is a shim, which containerd runs; \
         to run a container, use ctr run --runtime io.sandbox.v1"
    )]
    NoSocket,
    #[error(transparent)]
    Id(#[from] IdError),
    #[error("the shim cannot {step}")]
    Step { step: &'static str, source: io::Error },
    #[error("the shim cannot join cgroup {path}, which the runtime options name")]
    Cgroup { path: String, source: cgroups_rs::fs::error::Error },
    #[error("no hierarchy has the cgroup {0}, which the runtime options name")]
    NoCgroup(String),
    #[error("the shim cannot serve")]
    Serve(#[from] ttrpc::Error),
}

/// Names a step in its error.
fn step<T, E: Into<io::Error>>(step: &'static str, result: Result<T, E>) -> Result<T, DaemonError> {
    result.map_err(|source| DaemonError::Step { step, source: source.into() })
}

/// Serves on the socket that is this process's stdin.
pub fn run(flags: &Flags) -> Result<(), DaemonError> {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let answer = File::from(step("keep its stdout", stdout)?);
    if !end_with_starter(&answer)? {
        return Ok(());
    }
    let mut ready = Some(answer);
    let served = prepare(flags).and_then(|listener| {
        let runtime = step(
            "start its threads",
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .max_blocking_threads(BLOCKING_THREADS)
                .enable_all()
                .build(),
        )?;
        let served = runtime.block_on(serve(flags, listener, &mut ready));
        // What still blocks must not hold up the end.
        runtime.shutdown_background();
        served
    });
    if let (Err(error), Some(mut ready)) = (&served, ready) {
        let _ = write!(ready, "{}", chain(error));
    }
    served
}

/// Makes the process a background one. There are no threads yet.
fn prepare(flags: &Flags) -> Result<UnixListener, DaemonError> {
    let listener = take_socket()?;
    let null = step("open /dev/null", OpenOptions::new().read(true).write(true).open("/dev/null"))?;
    step("replace its stdin", dup2_stdin(&null))?;
    step("replace its stdout", dup2_stdout(&null))?;
    // Fails only for the leader of a group, which has what this is for.
    let _ = setsid();
    // It was run through /proc/self/exe and would be called "exe".
    step("name itself", set_name(c"containerd-shim"))?;
    private_mounts()?;
    join_cgroup()?;
    let bundle = Bundle::at(".");
    let log = bundle.log();
    if let Ok(log) = &log {
        step("use the log FIFO", dup2_stderr(log))?;
    }
    let stderr = step("use its stderr", io::stderr().as_fd().try_clone_to_owned())?;
    trace::start(stderr.into(), flags.debug);
    if let Err(error) = log {
        warn!(error = chain(&error), "no log FIFO");
    }
    if let Err(error) = adjust_oom_score(std::process::id()) {
        warn!(%error, "cannot raise the shim's OOM score above containerd's");
    }
    let me = step("look itself up", ProcessId::of(std::process::id()))?;
    if let Err(error) = bundle.set_process(me) {
        warn!(error = chain(&error), "cannot keep which process the shim is");
    }
    Ok(listener)
}

/// Ends this process with its starter until the starter has its answer: containerd
/// takes a failed start for a missing shim and removes the bundle. False if the
/// starter is gone already.
fn end_with_starter(answer: &File) -> Result<bool, DaemonError> {
    step("be ended with its starter", set_pdeathsig(Signal::SIGKILL))?;
    let mut pipe = [PollFd::new(answer.as_fd(), PollFlags::empty())];
    let hung_up = step("look for its starter", poll(&mut pipe, PollTimeout::ZERO))?;
    Ok(hung_up == 0)
}

fn take_socket() -> Result<UnixListener, DaemonError> {
    let fd = io::stdin().as_fd().try_clone_to_owned();
    let listener = UnixListener::from(step("keep its stdin", fd)?);
    match listener.local_addr() {
        Ok(address) if address.as_pathname().is_some() => Ok(listener),
        _ => Err(DaemonError::NoSocket),
    }
}

/// The pod's mounts are in a namespace that ends with the shim; later mounts of
/// the host propagate into it.
fn private_mounts() -> Result<(), DaemonError> {
    step("enter a new mount namespace (it must run as root)", unshare(CloneFlags::CLONE_NEWNS))?;
    let none = None::<&str>;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    step("separate its mounts", mount(none, "/", none, flags, none))
}

/// Joins the cgroup that the options name: of the only hierarchy on cgroup v2,
/// on v1 of each that has it.
fn join_cgroup() -> Result<(), DaemonError> {
    let Ok(cgroup) = std::env::var(CGROUP_VARIABLE) else {
        return Ok(());
    };
    let group = Cgroup::load(hierarchies::auto(), cgroup.trim_start_matches('/'));
    let all = group.subsystems().iter().map(|subsystem| subsystem.to_controller());
    let there: Vec<_> = all.filter(|controller| controller.exists()).collect();
    if there.is_empty() {
        return Err(DaemonError::NoCgroup(cgroup));
    }
    let me = CgroupPid::from(u64::from(std::process::id()));
    for controller in there {
        let joined = controller.add_task_by_tgid(&me);
        joined.map_err(|source| DaemonError::Cgroup { path: cgroup.clone(), source })?;
    }
    Ok(())
}

async fn serve(
    flags: &Flags,
    listener: UnixListener,
    ready: &mut Option<File>,
) -> Result<(), DaemonError> {
    let pod_id = PodId::new(&flags.namespace, &flags.id)?;
    let outbox = Outbox::default();
    let service = Arc::new(Service::new(
        pod_id,
        Bundle::at("."),
        ShimSocket::at(&flags.socket),
        outbox.clone(),
    ));
    // Of the highest level, so that each line that is logged has its fields.
    let span = error_span!("pod", namespace = flags.namespace, pod = flags.id);
    let mut server = start_server(listener, service.clone(), &span).await?;
    let events = std::env::var_os("TTRPC_ADDRESS").unwrap_or_default();
    let sink = Containerd::new(events.into(), flags.namespace.clone());
    tokio::spawn(outbox.deliver(sink).instrument(span.clone()));
    // The guest boots while containerd prepares its Create, which reports a
    // failure. Without a spec, CreateSandbox describes the pod.
    if service.bundle().has_spec() {
        let service = service.clone();
        let boot = async move { service.boot().await.map(drop) };
        tokio::spawn(boot.instrument(span.clone()));
    }
    let signals = signals()?;
    kill_point::reach("bootstrap: the shim serves");
    report_ready(ready)?;
    kill_point::reach("bootstrap: the shim has said so");
    let until_end = async {
        info!("serving");
        tokio::select! {
            () = service.ended() => {}
            () = service.end_when_forgotten() => {}
            name = signals => {
                info!(signal = name, "ending");
                service.end().await;
            }
        }
    };
    until_end.instrument(span).await;
    let _ = timeout(REPLY_TIMEOUT, server.shutdown()).await;
    Ok(())
}

async fn start_server(
    listener: UnixListener,
    service: Arc<Service>,
    pod: &Span,
) -> Result<Server, DaemonError> {
    let sandbox = Arc::new(SandboxService::new(service.clone()));
    let task = Arc::new(TaskService::new(service));
    let mut v2 = create_task(task.clone());
    let methods = v2.remove(TASK_V3).map(|methods| (TASK_V2.to_owned(), methods));
    let listener = step("use its socket", Listener::try_from(listener))?;
    let services = create_task(task).into_iter().chain(create_sandbox(sandbox)).chain(methods);
    let services = trace::services(pod, services.collect());
    #[cfg(feature = "kill-points")]
    let services = crate::killing::services(services);
    let mut server = Server::new().add_listener(listener).register_service(services);
    server.start().await?;
    Ok(server)
}

/// Resolves to the name of the first signal that ends the shim.
fn signals() -> Result<impl Future<Output = &'static str>, DaemonError> {
    let mut term = step("handle signals", signal(SignalKind::terminate()))?;
    let mut interrupt = step("handle signals", signal(SignalKind::interrupt()))?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Reports to `start`, which reads this pipe to its end.
fn report_ready(ready: &mut Option<File>) -> Result<(), DaemonError> {
    step("outlive its starter", set_pdeathsig(None))?;
    match ready.take() {
        Some(mut ready) => step("answer start", ready.write_all(READY.as_bytes())),
        None => Ok(()),
    }
}
