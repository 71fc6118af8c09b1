//! The shim's end of the control socket of one process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use sandbox_vm_spec::launch::{Launch, MAX_LINE, Report};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Room of the reader: reports are short.
const BUFFER: usize = 512;

/// The reports of a process, one a line. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    /// A socket pair: the shim's end, and the one that the process inherits.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let stream = BufReader::with_capacity(BUFFER, UnixStream::from_std(ours)?);
        Ok((Self { stream }, theirs.into()))
    }

    /// Sends the process its task.
    pub async fn launch(&mut self, launch: &Launch) -> io::Result<()> {
        let mut line = serde_json::to_vec(launch).map_err(io::Error::other)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).await
    }

    /// The next report; none when the process has closed its end.
    pub async fn report(&mut self) -> io::Result<Option<Report>> {
        let mut line = Vec::new();
        // A process may have been taken over by its guest: its lines are bounded.
        let mut bounded = (&mut self.stream).take(MAX_LINE as u64);
        if bounded.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests;
