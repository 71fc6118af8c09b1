//! `start`: makes the pod's shim, or finds it, and answers with its address.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use containerd_shim::Flags;
use sandbox_runtime::{IdError, LOG_VARIABLE, PodId, kill_point, log_level};
use thiserror::Error;
use tracing::level_filters::LevelFilter;

use crate::bootstrap::{self, Asked, BootstrapError, Dialect, Environment, Request};
use crate::bundle::{Bundle, BundleError};
use crate::daemon;
use crate::info;
use crate::socket::{Claim, ShimSocket, SocketError};

/// How long containerd's binary may take to tell its version. It takes 30 ms;
/// after this the answer is the one that every version reads.
const VERSION_LIMIT: Duration = Duration::from_secs(2);

/// Most that is read of a version, and of what a failing shim says.
const MAX_WORDS: u64 = 64 << 10;

/// A shim that cannot be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// stdin cannot be read
    #[error("cannot read the request from stdin")]
    Stdin(#[source] io::Error),
    /// The question cannot be answered.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// An id cannot be used.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The background process cannot be run.
    #[error("cannot run the shim in the background")]
    Spawn(#[source] io::Error),
    /// The background process failed.
    #[error("{0}")]
    Daemon(String),
    /// stdout cannot be written
    #[error("cannot write the answer to stdout")]
    Stdout(#[source] io::Error),
}

/// Runs `start`: reads the question from stdin, the bundle from the working
/// folder, and writes nothing but the answer.
pub fn run(flags: &Flags) -> Result<(), StartError> {
    let mut input = Vec::new();
    io::stdin()
        .lock()
        .take(bootstrap::MAX_INPUT)
        .read_to_end(&mut input)
        .map_err(StartError::Stdin)?;
    let request = bootstrap::read(flags, &Environment::of_process(), &input)?;
    let version = Version::ask(&request);
    let address = shim_of(&request)?;
    let answer = bootstrap::answer(version.dialect(), &address)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&answer).and_then(|()| stdout.flush()).map_err(StartError::Stdout)
}

/// Address of the shim that serves the request's container.
fn shim_of(request: &Request) -> Result<String, StartError> {
    let bundle = Bundle::at(".");
    let pod = bundle.pod_of(&request.id)?;
    PodId::new(&request.namespace, &request.id)?;
    PodId::new(&request.namespace, &pod)?;
    if let Some(path) = &request.options.config_path {
        bundle.set_config_path(path)?;
    }
    let socket =
        ShimSocket::of_pod(&request.socket_dir, &request.grpc_address, &request.namespace, &pod);
    // Not one that was killed in this bundle.
    socket.is_served_by_the_living(&bundle);
    if let Claim::Ours(listener) = socket.claim()? {
        kill_point::reach("bootstrap: a socket");
        let identity = socket.identity();
        let started = start_shim(request, &pod, &socket, listener);
        if let (Err(_), Some(identity)) = (&started, identity) {
            socket.remove(identity);
        }
        started?;
    }
    let address = socket.address();
    bundle.set_address(&address)?;
    kill_point::reach("bootstrap: an address");
    Ok(address)
}

/// Runs this program again as the shim. It inherits the socket as its stdin,
/// and says on its stdout when it serves, or why it cannot.
fn start_shim(
    request: &Request,
    pod: &str,
    socket: &ShimSocket,
    listener: UnixListener,
) -> Result<(), StartError> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(std::env::args_os().next().unwrap_or_else(|| info::PROGRAM.into()))
        .args(["-namespace", &request.namespace])
        .args(["-id", pod])
        .args(["-address", &request.grpc_address])
        .args(["-socket", &socket.address()])
        .env("TTRPC_ADDRESS", events_address(request))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if request.debug {
        command.arg("-debug");
        // For the processes of the pod, which know no flags.
        let level = log_level(LevelFilter::DEBUG).max(LevelFilter::DEBUG);
        command.env(LOG_VARIABLE, level.to_string());
    }
    if let Some(path) = &request.options.config_path {
        command.env(daemon::CONFIG_VARIABLE, path);
    }
    if let Some(cgroup) = &request.options.shim_cgroup {
        command.env(daemon::CGROUP_VARIABLE, cgroup);
    }
    let child = command.spawn().map_err(StartError::Spawn)?;
    kill_point::reach("bootstrap: a process");
    // The listener in the command would keep the socket alive if the shim dies.
    drop(command);
    await_ready(child)
}

/// containerd's event socket is beside its gRPC socket, where it does not say.
fn events_address(request: &Request) -> String {
    if request.ttrpc_address.is_empty() {
        format!("{}.ttrpc", request.grpc_address)
    } else {
        request.ttrpc_address.clone()
    }
}

fn await_ready(mut child: Child) -> Result<(), StartError> {
    let mut words = String::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(MAX_WORDS).read_to_string(&mut words);
        read.map_err(StartError::Spawn)?;
    }
    match words.trim() {
        daemon::READY => Ok(()),
        "" => {
            let status = child.wait().map_err(StartError::Spawn)?;
            Err(StartError::Daemon(format!("the shim ended before it served: {status}")))
        }
        error => {
            let _ = child.wait();
            Err(StartError::Daemon(error.to_owned()))
        }
    }
}

/// The answer of containerd's binary to `--version`, asked for while the shim
/// starts.
enum Version {
    /// Need not be asked.
    Known(Dialect),
    /// Comes.
    Asked(mpsc::Receiver<String>),
}

impl Version {
    fn ask(request: &Request) -> Self {
        match request.asked {
            Asked::Certain(dialect) => Self::Known(dialect),
            Asked::ByVersion => {
                let (sender, receiver) = mpsc::channel();
                let binary = request.binary.clone();
                thread::spawn(move || sender.send(version_of(&binary)));
                Self::Asked(receiver)
            }
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::Known(dialect) => dialect,
            Self::Asked(receiver) => {
                let output = receiver.recv_timeout(VERSION_LIMIT).unwrap_or_default();
                bootstrap::dialect_of_version(&output)
            }
        }
    }
}

/// What the binary prints, or nothing.
fn version_of(binary: &Path) -> String {
    let spawned = Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else {
        return String::new();
    };
    let mut words = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(MAX_WORDS).read_to_string(&mut words);
    }
    let _ = child.wait();
    words
}
