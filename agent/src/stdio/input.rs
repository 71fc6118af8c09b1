//! Where a process reads its stdin from.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe::Sender;

use super::pending::Pending;
use super::{Connection, Terminal};
use crate::reaper::{ExitWatch, exit_of};

pub struct Input {
    sink: Sink,
    pending: Pending,
}

enum Sink {
    Pipe(Sender),
    Terminal(Arc<Terminal>),
    Closed,
}

impl Input {
    pub(super) fn pipe(sender: Sender) -> Self {
        Self { sink: Sink::Pipe(sender), pending: Pending::default() }
    }

    pub(super) fn terminal(terminal: Arc<Terminal>) -> Self {
        Self { sink: Sink::Terminal(terminal), pending: Pending::default() }
    }

    /// Whether the process has been given its end of file.
    pub fn is_closed(&self) -> bool {
        matches!(self.sink, Sink::Closed)
    }

    /// Hands what `connection` sends to the process, beginning with `first`,
    /// until the host ends its side, which ends the process's stdin, or until
    /// the last reader is gone. A connection that breaks ends nothing.
    pub async fn feed(
        &mut self,
        connection: &mut impl Connection,
        first: &[u8],
        exit: ExitWatch,
    ) -> io::Result<()> {
        self.pending.space().extend_from_slice(first);
        loop {
            if self.drain().await.is_err() {
                self.sink = Sink::Closed;
                return connection.shutdown().await;
            }
            let read = tokio::select! {
                read = connection.read_buf(self.pending.space()) => read?,
                () = self.sink.abandoned(exit.clone()) => 0,
            };
            if read == 0 {
                self.sink.close();
                return connection.shutdown().await;
            }
        }
    }

    async fn drain(&mut self) -> io::Result<()> {
        while !self.pending.rest().is_empty() {
            let written = match &mut self.sink {
                Sink::Pipe(pipe) => pipe.write(self.pending.rest()).await?,
                Sink::Terminal(terminal) => terminal.write(self.pending.rest()).await?,
                Sink::Closed => return Err(io::ErrorKind::BrokenPipe.into()),
            };
            self.pending.advance(written);
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

    /// Returns when the last reader is gone.
    async fn abandoned(&self, exit: ExitWatch) {
        match self {
            // The kernel reports an error on a pipe that has no reader.
            Self::Pipe(pipe) => drop(pipe.ready(Interest::ERROR).await),
            Self::Terminal(_) => drop(exit_of(exit).await),
            Self::Closed => {}
        }
    }
}
