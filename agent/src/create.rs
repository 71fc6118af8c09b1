//! Makes a container: the agent's side.
//!
//! libcontainer clones the calling process, which must not have other threads
//! and should not have the agent's descriptors. So the agent executes itself
//! once more (see [`child`]) and listens on a socket in the bundle for how it
//! went. The container's first process is a grandchild, and comes to process 1
//! when the child ends.

pub mod child;
pub(crate) mod executable;
mod home;
pub mod id_map;
pub(crate) mod report;
pub(crate) mod workload;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Pid;
use sandbox_agent_protocol::agent::RootFilesystem;
use tokio::io::Interest;
use tokio::net::{UnixDatagram, UnixListener, UnixStream};

use crate::cgroup::{self, Cgroup};
use crate::paths;
use crate::process::Process;
use crate::reaper::{Reaper, exit_of};
use crate::rootfs::{Rootfs, RootfsError};
use crate::spec::{self, Prepared};
use crate::stdio::{ChildEnds, Stdio, Terminal, Wanted};

use report::{Outcome, Report};

/// First argument of the creating child.
pub const COMMAND: &str = "create";

/// Why a container could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(transparent)]
    Cgroup(#[from] cgroup::CgroupError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The container could not be set up, or its program not be found.
    #[error("{0}")]
    Failed(String),
    /// The creating child ended without a word.
    #[error("the process that sets it up ended with status {status}{hint}")]
    Died { status: u32, hint: &'static str },
}

impl CreateError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}

/// The parts of a container that was created.
pub struct Created {
    pub cgroup: Cgroup,
    pub init: Process,
    /// Its root file system, where the agent assembled it.
    pub rootfs: Option<Rootfs>,
}

/// Creates container `id`, assembling its root file system where `rootfs`
/// describes one. After a failure nothing is left of it.
pub async fn create(
    id: &str,
    prepared: Prepared,
    rootfs: Option<&RootFilesystem>,
    wanted: Wanted,
    reaper: &Reaper,
) -> Result<Created, CreateError> {
    let mut rootfs = match rootfs {
        Some(wanted) => Some(Rootfs::make(id, wanted).await?),
        None => None,
    };
    match create_on(id, prepared, wanted, reaper).await {
        Ok((cgroup, init)) => Ok(Created { cgroup, init, rootfs }),
        Err(error) => {
            if let Some(rootfs) = &mut rootfs {
                // The first error is the one to report.
                let _ = rootfs.remove().await;
            }
            Err(error)
        }
    }
}

async fn create_on(
    id: &str,
    prepared: Prepared,
    wanted: Wanted,
    reaper: &Reaper,
) -> Result<(Cgroup, Process), CreateError> {
    let cgroup = Cgroup::create(id)?;
    match create_in(id, prepared, wanted, reaper).await {
        Ok(process) => Ok((cgroup, process)),
        Err(error) => {
            // What is left after a failed removal could not be reached by an
            // id anyway; the first error is the one to report.
            let _ = cgroup.remove().await;
            let _ = paths::remove(id);
            Err(error)
        }
    }
}

async fn create_in(
    id: &str,
    prepared: Prepared,
    wanted: Wanted,
    reaper: &Reaper,
) -> Result<Process, CreateError> {
    let bundle = paths::bundle(id);
    write_bundle(&bundle, &prepared)?;
    set_guest_sysctls(&prepared.guest_sysctls)?;
    let cwd = prepared.spec.process().as_ref().map(|p| p.cwd().clone()).unwrap_or_default();
    spec::clear_dev(&prepared.spec).map_err(CreateError::io("prepare /dev of the image"))?;
    spec::make_cwd(&prepared.spec)
        .map_err(CreateError::io(format!("make the working directory {cwd:?}")))?;

    if id_map::is_needed(&prepared.spec) {
        id_map::provide().map_err(CreateError::io("provide newuidmap and newgidmap"))?;
    }
    let failed = || CreateError::io("make the sockets of the bundle");
    let report = UnixDatagram::bind(bundle.join(paths::REPORT_SOCKET)).map_err(failed())?;
    let listener = || UnixListener::bind(bundle.join(paths::CONSOLE_SOCKET));
    let console = wanted.terminal.then(listener).transpose().map_err(failed())?;
    let launch = Launch {
        arguments: &[OsStr::new(COMMAND), bundle.as_os_str()],
        inherited: Vec::new(),
        report,
        console: console.map(Console::Listener),
        console_size: prepared.console_size,
        uid: prepared.uid,
        wanted,
    };
    launch.run(reaper).await
}

/// The agent's program, to be started as the child that makes a process.
pub(crate) struct Launch<'a> {
    pub arguments: &'a [&'a OsStr],
    /// Descriptors that the child has under the same numbers.
    pub inherited: Vec<OwnedFd>,
    /// Receives the child's reports.
    pub report: UnixDatagram,
    /// Receives the terminal's master, where the process has a terminal.
    pub console: Option<Console>,
    /// Columns and lines that the terminal has to get.
    pub console_size: Option<(u16, u16)>,
    /// The owner of the streams.
    pub uid: u32,
    pub wanted: Wanted,
}

/// The socket on which the terminal's master arrives.
pub(crate) enum Console {
    /// The child connects to its path.
    Listener(UnixListener),
    /// The child has the other end.
    Stream(UnixStream),
}

impl Launch<'_> {
    /// Runs the child to its end; returns the process that it made.
    pub async fn run(self, reaper: &Reaper) -> Result<Process, CreateError> {
        let wanted = self.wanted;
        let pipes = if wanted.terminal { Wanted::default() } else { wanted };
        let (stdio, ends) = Stdio::pipes(pipes, self.uid).map_err(CreateError::io("make pipes"))?;

        let creation = reaper.creation();
        let pid = run_child(self.arguments, self.inherited, ends, &self.report, reaper).await?;
        let exit = reaper.watch(pid.as_raw_nonzero().get());
        drop(creation);

        let failed = || CreateError::io("take over the terminal");
        let stdio = match self.console {
            None => stdio,
            Some(console) => {
                let terminal = console.terminal().await.map_err(failed())?;
                terminal.give_to(self.uid).map_err(failed())?;
                if let Some((columns, lines)) = self.console_size.filter(|size| *size != (0, 0)) {
                    terminal.resize(columns, lines).map_err(failed())?;
                }
                Stdio::on_terminal(wanted, terminal)
            }
        };
        Ok(Process::new(pid, stdio, exit))
    }
}

impl Console {
    /// The master that the child sent before it reported success.
    async fn terminal(self) -> io::Result<Terminal> {
        let connection = match self {
            Self::Listener(listener) => listener.accept().await?.0,
            Self::Stream(connection) => connection,
        };
        loop {
            connection.readable().await?;
            match connection.try_io(Interest::READABLE, || receive_fd(&connection)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                received => return Terminal::new(received?),
            }
        }
    }
}

/// Writes what the child reads.
fn write_bundle(bundle: &Path, prepared: &Prepared) -> Result<(), CreateError> {
    let failed = || CreateError::io("write the bundle");
    fs::create_dir_all(paths::STATE_DIR).map_err(failed())?;
    fs::create_dir_all(bundle).map_err(failed())?;
    let json = serde_json::to_vec(&prepared.spec).map_err(io::Error::other).map_err(failed())?;
    fs::write(bundle.join(paths::CONFIG), json).map_err(failed())
}

fn set_guest_sysctls(sysctls: &[(String, String)]) -> Result<(), CreateError> {
    for (key, value) in sysctls {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        fs::write(path, value).map_err(CreateError::io(format!("set sysctl {key}={value}")))?;
    }
    Ok(())
}

/// Runs the child to its end, and returns the process that it made.
async fn run_child(
    arguments: &[&OsStr],
    inherited: Vec<OwnedFd>,
    ends: ChildEnds,
    report: &UnixDatagram,
    reaper: &Reaper,
) -> Result<Pid, CreateError> {
    // From here to the drop nothing else is started that would inherit them,
    // too: the runtime has one thread.
    for fd in &inherited {
        let kept = fcntl_setfd(fd, FdFlags::empty()).map_err(io::Error::from);
        kept.map_err(CreateError::io("pass descriptors"))?;
    }
    let child = Command::new("/proc/self/exe")
        .args(arguments)
        .env_clear()
        .env("PATH", id_map::DIR)
        .current_dir("/")
        .stdin(ends.stdin)
        .stdout(ends.stdout)
        .stderr(ends.stderr)
        .spawn()
        .map_err(CreateError::io("start the process that sets it up"))?;
    drop(inherited);
    // The reaper takes its exit, so `child` is never waited on.
    let ended = exit_of(reaper.watch(child.id().cast_signed()));
    tokio::pin!(ended);
    let mut outcome = Outcome::default();
    loop {
        tokio::select! {
            biased;
            received = Report::receive(report) => {
                outcome.add(received.map_err(CreateError::io("receive the reports of the creation"))?);
            }
            exit = &mut ended => {
                // All was sent before the end, but the runtime may report the
                // two in any order.
                while let Some(report) = Report::arrived(report) {
                    outcome.add(report);
                }
                return outcome.finish(exit.status);
            }
        }
    }
}

fn receive_fd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut parts = [io::IoSliceMut::new(&mut name)];
    recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.flatten().next().ok_or_else(|| io::Error::other("no terminal came with the message"))
}
