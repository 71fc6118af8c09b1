//! Processes on the host that belong to a pod.

mod spawner;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::log::LOG_VARIABLE;

/// Names a process beyond the reuse of its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its pid.
    pub pid: u32,
    /// When it began, in clock ticks since the host's boot (field 22 of
    /// `/proc/<pid>/stat`).
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has `pid` now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::of(pid)?;
        Ok(Self { pid, start_time: stat.start_time })
    }

    /// Whether it runs still, and no other process took its pid. One that has
    /// ended and waits for its parent, or for its threads, runs no more.
    pub fn is_alive(self) -> bool {
        Stat::of(self.pid).is_ok_and(|now| now.start_time == self.start_time && !now.ended)
    }

    /// Opens the process unless it is reaped. A process without its first thread
    /// is opened, too: other threads of a hostile process may run on.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after the open: what the descriptor names cannot change.
        Self::of(self.pid).is_ok_and(|now| now == self).then_some(fd)
    }
}

/// What is read of `/proc/<pid>/stat` (proc(5)).
struct Stat {
    /// Field 3 is Z or X.
    ended: bool,
    /// Field 22.
    start_time: u64,
}

impl Stat {
    fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/<pid>/stat"))
    }

    /// The name of the program is in parentheses and may itself hold any byte.
    fn parse(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(')')?;
        let mut fields = after_name.split_ascii_whitespace();
        // Field 3 is the first after the name.
        let ended = matches!(fields.next()?, "Z" | "X");
        let start_time = fields.nth(22 - 4)?.parse().ok()?;
        Some(Self { ended, start_time })
    }
}

/// A process to be started.
pub(crate) struct Launcher<'a> {
    /// Its binary.
    pub program: &'a Path,
    /// Its arguments.
    pub args: &'a [&'a str],
    /// Descriptors that it inherits beside stderr, with their numbers there.
    pub fds: Vec<(OwnedFd, i32)>,
}

impl Launcher<'_> {
    /// The command: nothing of the environment but the log level, no stdin and stdout.
    fn command(self) -> io::Result<Command> {
        let mut command = Command::new(self.program);
        command
            .args(self.args)
            .env_clear()
            .envs(std::env::var_os(LOG_VARIABLE).map(|level| (LOG_VARIABLE, level)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mappings = self
            .fds
            .into_iter()
            .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd })
            .collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok(command)
    }
}

/// A child that the runtime started. It is killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct HostProcess {
    id: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
    child: Mutex<Child>,
}

impl HostProcess {
    /// Starts it from a thread that lives as long as this process.
    pub async fn spawn(launcher: Launcher<'_>) -> io::Result<Self> {
        let child = spawner::spawn(launcher.command()?).await?;
        Self::adopt(child)
    }

    fn adopt(mut child: Child) -> io::Result<Self> {
        // Until it is reaped its pid is its own, so both look-ups are right.
        let opened = ProcessId::of(child.id()).and_then(|id| {
            let pid = Pid::from_child(&child);
            let fd = pidfd_open(pid, PidfdFlags::empty())?;
            // An OwnedFd cannot be closed under tokio, which is what the
            // deprecation warns of; what replaces it is unsafe to call.
            #[allow(deprecated)]
            let pidfd = AsyncFd::with_interest(fd, Interest::READABLE)?;
            Ok((id, pidfd))
        });
        match opened {
            Ok((id, pidfd)) => Ok(Self { id, pidfd, child: Mutex::new(child) }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// Its identity.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        // Only ESRCH can come, for one that has ended and was reaped.
        let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }

    /// Waits for the end of a process that was killed, and frees its pid.
    pub fn reap(&self) {
        let _ = self.child.lock().wait();
    }

    /// Waits for the end and returns the status in words.
    pub async fn exited(&self) -> String {
        if let Err(error) = self.pidfd.readable().await {
            return format!("cannot be watched: {error}");
        }
        let mut child = self.child.lock();
        match child.try_wait() {
            Ok(Some(status)) => describe(status),
            Ok(None) => "has not ended".to_owned(),
            Err(error) => format!("ended with an unknown status: {error}"),
        }
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        end(self.child.get_mut());
    }
}

/// Kills and reaps. A SIGKILLed process ends at once unless the kernel itself
/// hangs.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests;
