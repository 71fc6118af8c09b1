//! `start`: starts the pod's shim or finds it, and answers with its address.

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

use crate::bootstrap::{self, BootstrapError, Dialect, DialectHint, Environment, Request};
use crate::bundle::{Bundle, BundleError};
use crate::daemon;
use crate::info;
use crate::socket::{Claim, ShimSocket, SocketError};

/// How long containerd's binary may take to print its version. It takes 30 ms;
/// after this the answer is the one that every version reads.
const VERSION_TIMEOUT: Duration = Duration::from_secs(2);

/// Most that is read of a version, and of a failing shim's error.
const MAX_OUTPUT: u64 = 64 << 10;

#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot read the request from stdin")]
    Stdin(#[source] io::Error),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot run the shim in the background")]
    Spawn(#[source] io::Error),
    #[error("{0}")]
    Daemon(String),
    #[error("cannot write the answer to stdout")]
    Stdout(#[source] io::Error),
}

/// Reads the request from stdin and the bundle from the working directory, and
/// writes nothing but the answer.
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
    socket.is_served_by_live_shim(&bundle);
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
/// and reports on its stdout that it serves, or why it cannot.
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

/// containerd's event socket: beside its gRPC socket if the request has none.
fn events_address(request: &Request) -> String {
    if request.ttrpc_address.is_empty() {
        format!("{}.ttrpc", request.grpc_address)
    } else {
        request.ttrpc_address.clone()
    }
}

fn await_ready(mut child: Child) -> Result<(), StartError> {
    let mut output = String::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(MAX_OUTPUT).read_to_string(&mut output);
        read.map_err(StartError::Spawn)?;
    }
    match output.trim() {
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

/// What containerd's binary prints for `--version`, which runs while the shim starts.
enum Version {
    Known(Dialect),
    DialectHint(mpsc::Receiver<String>),
}

impl Version {
    fn ask(request: &Request) -> Self {
        match request.dialect {
            DialectHint::Certain(dialect) => Self::Known(dialect),
            DialectHint::ByVersion => {
                let (sender, receiver) = mpsc::channel();
                let binary = request.binary.clone();
                thread::spawn(move || sender.send(version_of(&binary)));
                Self::DialectHint(receiver)
            }
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            Self::Known(dialect) => dialect,
            Self::DialectHint(receiver) => {
                let output = receiver.recv_timeout(VERSION_TIMEOUT).unwrap_or_default();
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
    let mut output = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(MAX_OUTPUT).read_to_string(&mut output);
    }
    let _ = child.wait();
    output
}
