//! Where a process writes its stdout or stderr to.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;

use super::pending::Pending;
use super::{Connection, Terminal};

pub struct Output {
    source: Source,
    pending: Pending,
    ended: bool,
}

enum Source {
    Pipe(Receiver),
    Terminal(Arc<Terminal>),
}

impl Output {
    pub(super) fn pipe(receiver: Receiver) -> Self {
        Self { source: Source::Pipe(receiver), pending: Pending::default(), ended: false }
    }

    pub(super) fn terminal(terminal: Arc<Terminal>) -> Self {
        Self { source: Source::Terminal(terminal), pending: Pending::default(), ended: false }
    }

    /// Sends what the process writes to `connection` until the last writer
    /// closes. The next connection gets what a broken one did not take.
    pub async fn drain(&mut self, connection: &mut impl Connection) -> io::Result<()> {
        let mut watch_peer = true;
        loop {
            while !self.pending.rest().is_empty() {
                let written = connection.write(self.pending.rest()).await?;
                self.pending.advance(written);
            }
            if self.ended {
                // Frees its memory: a process is deleted long after its end.
                self.pending = Pending::default();
                return connection.shutdown().await;
            }
            let mut ignored = [0; 64];
            tokio::select! {
                read = self.source.read(self.pending.space()) => self.ended = read? == 0,
                heard = connection.read(&mut ignored), if watch_peer => {
                    watch_peer = heard? != 0;
                    if !watch_peer && connection.is_closed() {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                }
            }
        }
    }
}

impl Source {
    async fn read(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.read_buf(buf).await,
            Self::Terminal(terminal) => terminal.read(buf).await,
        }
    }
}
