//! Where a process reads its stdin from.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe::Sender;

use super::Terminal;
use super::output::CHUNK;
use crate::reaper::{ExitWatch, exit_of};
use crate::streams::Connection;

/// See the module.
pub struct Input {
    sink: Sink,
    /// Taken from a connection, and not yet written when that broke.
    pending: Vec<u8>,
}

enum Sink {
    Pipe(Sender),
    Terminal(Arc<Terminal>),
    Closed,
}

impl Input {
    pub(super) fn pipe(sender: Sender) -> Self {
        Self { sink: Sink::Pipe(sender), pending: Vec::new() }
    }

    pub(super) fn terminal(terminal: Arc<Terminal>) -> Self {
        Self { sink: Sink::Terminal(terminal), pending: Vec::new() }
    }

    /// Whether the process has been given its end of file.
    pub fn is_closed(&self) -> bool {
        matches!(self.sink, Sink::Closed)
    }

    /// Hands what `connection` sends to the process, beginning with `first`,
    /// until the host ends its side, which ends the process's stdin, or until
    /// nobody can read it any more. A connection that breaks ends nothing.
    pub async fn feed(
        &mut self,
        connection: &mut impl Connection,
        first: &[u8],
        exit: ExitWatch,
    ) -> io::Result<()> {
        self.pending.extend_from_slice(first);
        let mut buf = vec![0; CHUNK];
        loop {
            if self.drain().await.is_err() {
                self.sink = Sink::Closed;
                return connection.shutdown().await;
            }
            let read = tokio::select! {
                read = connection.read(&mut buf) => read?,
                () = self.sink.abandoned(exit.clone()) => 0,
            };
            if read == 0 {
                self.sink.close();
                return connection.shutdown().await;
            }
            self.pending.extend_from_slice(&buf[..read]);
        }
    }

    async fn drain(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let written = match &mut self.sink {
                Sink::Pipe(pipe) => pipe.write(&self.pending).await?,
                Sink::Terminal(terminal) => terminal.write(&self.pending).await?,
                Sink::Closed => return Err(io::ErrorKind::BrokenPipe.into()),
            };
            self.pending.drain(..written);
        }
        Ok(())
    }
}

impl Sink {
    /// The end of a pipe is its last writer going; a terminal has none, its
    /// programs look for ^D.
    fn close(&mut self) {
        if matches!(self, Self::Pipe(_)) {
            *self = Self::Closed;
        }
    }

    /// Returns when nobody can read any more.
    async fn abandoned(&self, exit: ExitWatch) {
        match self {
            // The kernel reports an error on a pipe that has no reader.
            Self::Pipe(pipe) => drop(pipe.ready(Interest::ERROR).await),
            Self::Terminal(_) => drop(exit_of(exit).await),
            Self::Closed => {}
        }
    }
}
