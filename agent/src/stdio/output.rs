//! Where a process writes its stdout or stderr to.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;

use super::Terminal;
use crate::streams::Connection;

/// Bytes moved at once: what a pipe holds.
pub(super) const CHUNK: usize = 64 * 1024;

/// See the module.
pub struct Output {
    source: Source,
    /// Read from the process, and not yet sent when the connection broke.
    pending: Vec<u8>,
    ended: bool,
}

enum Source {
    Pipe(Receiver),
    Terminal(Arc<Terminal>),
}

impl Output {
    pub(super) fn pipe(receiver: Receiver) -> Self {
        Self { source: Source::Pipe(receiver), pending: Vec::new(), ended: false }
    }

    pub(super) fn terminal(terminal: Arc<Terminal>) -> Self {
        Self { source: Source::Terminal(terminal), pending: Vec::new(), ended: false }
    }

    /// Sends what the process writes to `connection` until nobody can write
    /// any more. What a broken connection did not take, the next one gets.
    pub async fn drain(&mut self, connection: &mut impl Connection) -> io::Result<()> {
        let mut buf = vec![0; CHUNK];
        let mut watch_peer = true;
        loop {
            while !self.pending.is_empty() {
                let written = connection.write(&self.pending).await?;
                self.pending.drain(..written);
            }
            if self.ended {
                return connection.shutdown().await;
            }
            let mut ignored = [0; 64];
            tokio::select! {
                read = self.source.read(&mut buf) => {
                    let read = read?;
                    self.ended = read == 0;
                    self.pending.extend_from_slice(&buf[..read]);
                }
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
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.read(buf).await,
            Self::Terminal(terminal) => terminal.read(buf).await,
        }
    }
}
