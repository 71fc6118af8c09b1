//! A process's standard streams, between containerd's FIFOs and the guest.
//!
//! The shim holds both ends of each FIFO, so a client that detaches neither
//! stops the process nor ends its input, and one that comes back goes on.

mod copy;
mod dial;
mod logger;
mod sink;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sandbox_agent_protocol::agent;
use sandbox_agent_protocol::stream::{StreamHeader, StreamName};
use tokio::net::unix::pipe;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::container::Stdio;
use crate::failure::ErrorKind;
use crate::id::ProcessRef;
use dial::GuestStream;
use sink::Sink;

/// How long a delete waits while no output moves: a process that inherited
/// the stream and lives on must not hold it up.
const IDLE: Duration = Duration::from_secs(2);

/// A stream that cannot be used.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    #[error("cannot open {stream} {path}", path = path.display())]
    Open { stream: &'static str, path: PathBuf, source: io::Error },
    #[error("{stream} {uri:?}: only FIFO paths, file://, binary:// and binary-v2:// are known")]
    Scheme { stream: &'static str, uri: String },
    #[error("cannot connect {stream} to the guest")]
    Connect { stream: &'static str, source: io::Error },
}

impl StdioError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Open { .. } => ErrorKind::FailedPrecondition,
            Self::Scheme { .. } => ErrorKind::InvalidArgument,
            Self::Connect { .. } => ErrorKind::Internal,
        }
    }
}

pub(crate) struct HostStreams {
    stdin: Option<(pipe::Receiver, pipe::Sender)>,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
    terminal: bool,
}

impl HostStreams {
    /// Opens the streams that containerd named for the process `id`.
    pub async fn open(id: &str, stdio: &Stdio, namespace: &str) -> Result<Self, StdioError> {
        let stdin = match stdio.stdin.as_str() {
            "" => None,
            path => Some(open_stdin(Path::new(path))?),
        };
        let (stdout, stderr) = sink::open(id, stdio, namespace).await?;
        Ok(Self { stdin, stdout, stderr, terminal: stdio.terminal })
    }

    /// The streams that the process gets.
    pub fn wanted(&self) -> agent::Stdio {
        agent::Stdio {
            stdin: self.stdin.is_some(),
            stdout: self.stdout.is_some(),
            stderr: self.stderr.is_some(),
            terminal: self.terminal,
            ..Default::default()
        }
    }

    /// Connects each to its stream in the guest and starts the copies.
    pub async fn attach(self, vsock: &Path, process: &ProcessRef) -> Result<Streams, StdioError> {
        let dial = async |is_open: bool, stream: StreamName| {
            if !is_open {
                return Ok(None);
            }
            let container_id = process.container.clone();
            let exec_id = process.exec_id().to_owned();
            let header = StreamHeader { container_id, exec_id, stream };
            let dialled = dial::dial(vsock, &header).await;
            dialled
                .map(Some)
                .map_err(|source| StdioError::Connect { stream: stream.as_str(), source })
        };
        let (stdin, stdout, stderr) = tokio::try_join!(
            dial(self.stdin.is_some(), StreamName::Stdin),
            dial(self.stdout.is_some(), StreamName::Stdout),
            dial(self.stderr.is_some(), StreamName::Stderr),
        )?;
        let mut streams = Streams::default();
        if let (Some((receiver, holder)), Some(stream)) = (self.stdin, stdin) {
            streams.feed(stream, receiver, holder);
        }
        if let (Some(sink), Some(stream)) = (self.stdout, stdout) {
            streams.drain(stream, sink, "stdout");
        }
        if let (Some(sink), Some(stream)) = (self.stderr, stderr) {
            streams.drain(stream, sink, "stderr");
        }
        Ok(streams)
    }
}

/// The reading end, and a writing end that keeps it from ending when the
/// client closes its own.
fn open_stdin(path: &Path) -> Result<(pipe::Receiver, pipe::Sender), StdioError> {
    let failed = |source| StdioError::Open { stream: "stdin", path: path.to_owned(), source };
    let receiver = pipe::OpenOptions::new().open_receiver(path).map_err(failed)?;
    let holder = pipe::OpenOptions::new().open_sender(path).map_err(failed)?;
    Ok((receiver, holder))
}

/// The running copies of one process. Dropped, they stop.
#[derive(Default)]
pub(crate) struct Streams {
    holder: Mutex<Option<pipe::Sender>>,
    input: JoinSet<()>,
    output: tokio::sync::Mutex<JoinSet<()>>,
    moved: Arc<AtomicU64>,
}

impl Streams {
    fn feed(&mut self, stream: GuestStream, receiver: pipe::Receiver, holder: pipe::Sender) {
        self.input.spawn(copy::feed(receiver, stream));
        *self.holder.get_mut() = Some(holder);
    }

    fn drain(&mut self, stream: GuestStream, sink: Sink, name: &'static str) {
        let moved = Arc::clone(&self.moved);
        self.output.get_mut().spawn(copy::drain(stream, sink, moved, name));
    }

    /// Ends the input once the client's end is closed, too.
    pub fn close_stdin(&self) {
        self.holder.lock().take();
    }

    /// Waits until all output is with containerd, or no output moves.
    pub async fn finish(&self) {
        let mut output = self.output.lock().await;
        let mut before = self.moved.load(Ordering::Relaxed);
        loop {
            match timeout(IDLE, output.join_next()).await {
                Ok(None) => return,
                Ok(Some(_)) => {}
                Err(_) => {
                    let now = self.moved.load(Ordering::Relaxed);
                    if now == before {
                        output.shutdown().await;
                        return;
                    }
                    before = now;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
