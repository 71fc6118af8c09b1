//! The standard streams of a process, from the agent's side: pipes, or a
//! terminal. Their kernel buffers are all that is ever held back, so a process
//! without a reader of its output blocks, as on a full pipe.

mod connection;
mod input;
mod output;
mod pending;
mod terminal;

use std::io;
use std::process;
use std::sync::Arc;

use rustix::fs::{Gid, Uid, fchown};
use sandbox_agent_protocol::stream::StreamName;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub use connection::Connection;
pub use input::Input;
pub use output::Output;
pub use terminal::Terminal;

/// Which streams a process is to have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// It can read from the host.
    pub stdin: bool,
    /// Its output goes to the host.
    pub stdout: bool,
    /// Its errors go to the host.
    pub stderr: bool,
    /// A terminal is all three of them.
    pub terminal: bool,
}

/// The agent's ends. One connection at a time may use each.
#[derive(Default)]
pub struct Stdio {
    stdin: Option<Arc<Mutex<Input>>>,
    stdout: Option<Arc<Mutex<Output>>>,
    stderr: Option<Arc<Mutex<Output>>>,
    terminal: Option<Arc<Terminal>>,
}

/// The ends of a process that is about to be started.
pub struct ChildEnds {
    pub stdin: process::Stdio,
    pub stdout: process::Stdio,
    pub stderr: process::Stdio,
}

/// Why a stream cannot be fetched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("the process has no {}", .0.as_str())]
    Absent(StreamName),
    #[error("{} is in use by another connection", .0.as_str())]
    InUse(StreamName),
    #[error("stdin is closed")]
    Closed,
}

impl Stdio {
    /// Makes pipes for the wanted streams; the others are `/dev/null`. The
    /// ends of the process belong to `uid`, so that it can open `/dev/stdout`
    /// and the like anew.
    pub fn pipes(wanted: Wanted, uid: u32) -> io::Result<(Self, ChildEnds)> {
        let (stdin, child_stdin) = input_pipe(wanted.stdin, uid)?;
        let (stdout, child_stdout) = output_pipe(wanted.stdout, uid)?;
        let (stderr, child_stderr) = output_pipe(wanted.stderr, uid)?;
        let child = ChildEnds { stdin: child_stdin, stdout: child_stdout, stderr: child_stderr };
        Ok((Self { stdin, stdout, stderr, terminal: None }, child))
    }

    /// The streams of a process on `terminal`.
    pub fn on_terminal(wanted: Wanted, terminal: Terminal) -> Self {
        let terminal = Arc::new(terminal);
        let input = || Arc::new(Mutex::new(Input::terminal(terminal.clone())));
        let output = || Arc::new(Mutex::new(Output::terminal(terminal.clone())));
        Self {
            stdin: wanted.stdin.then(input),
            stdout: wanted.stdout.then(output),
            stderr: None,
            terminal: Some(terminal),
        }
    }

    /// Its terminal, if it is on one.
    pub fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_deref()
    }

    /// Takes stdin until the guard is dropped.
    pub fn fetch_input(&self) -> Result<OwnedMutexGuard<Input>, FetchError> {
        let stdin = self.stdin.clone().ok_or(FetchError::Absent(StreamName::Stdin))?;
        let input = stdin.try_lock_owned().map_err(|_| FetchError::InUse(StreamName::Stdin))?;
        if input.is_closed() { Err(FetchError::Closed) } else { Ok(input) }
    }

    /// Takes stdout or stderr until the guard is dropped.
    pub fn fetch_output(&self, name: StreamName) -> Result<OwnedMutexGuard<Output>, FetchError> {
        let slot = if name == StreamName::Stderr { &self.stderr } else { &self.stdout };
        let output = slot.clone().ok_or(FetchError::Absent(name))?;
        output.try_lock_owned().map_err(|_| FetchError::InUse(name))
    }
}

type Shared<T> = Option<Arc<Mutex<T>>>;

fn input_pipe(wanted: bool, uid: u32) -> io::Result<(Shared<Input>, process::Stdio)> {
    if !wanted {
        return Ok((None, process::Stdio::null()));
    }
    let (reader, writer) = io::pipe()?;
    own(&reader, uid)?;
    let writer = Sender::from_owned_fd(writer.into())?;
    Ok((Some(Arc::new(Mutex::new(Input::pipe(writer)))), reader.into()))
}

fn output_pipe(wanted: bool, uid: u32) -> io::Result<(Shared<Output>, process::Stdio)> {
    if !wanted {
        return Ok((None, process::Stdio::null()));
    }
    let (reader, writer) = io::pipe()?;
    own(&writer, uid)?;
    let reader = Receiver::from_owned_fd(reader.into())?;
    Ok((Some(Arc::new(Mutex::new(Output::pipe(reader)))), writer.into()))
}

fn own(fd: impl std::os::fd::AsFd, uid: u32) -> io::Result<()> {
    Ok(fchown(fd, Some(Uid::from_raw(uid)), None::<Gid>)?)
}

#[cfg(test)]
mod tests;
