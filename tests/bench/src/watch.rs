//! Sees what the processes of a machine say, and when.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longest boot in milliseconds: a machine that says nothing for so long is broken.
const PATIENCE: u16 = 60_000;

/// Something that happened.
pub enum Seen {
    /// A line of the stream of this name.
    Line(&'static str, String),
    /// The agent has connected to the host.
    Connected,
}

/// Streams of lines, and the socket to which the agent connects.
pub struct Watch {
    start: Instant,
    listener: UnixListener,
    streams: Vec<Stream>,
}

struct Stream {
    name: &'static str,
    file: File,
    partial: Vec<u8>,
    ended: bool,
}

impl Watch {
    /// Times count from `start`.
    pub fn new(start: Instant, listener: UnixListener) -> Self {
        Self { start, listener, streams: Vec::new() }
    }

    /// Also watches `stream`, whose lines it reports by `name`.
    pub fn add(&mut self, name: &'static str, stream: OwnedFd) {
        self.streams.push(Stream { name, file: stream.into(), partial: Vec::new(), ended: false });
    }

    /// Hands everything to `seen` with its time, until the agent has connected
    /// or `seen` fails.
    pub fn until_connected(
        &mut self,
        mut seen: impl FnMut(Duration, Seen) -> Result<()>,
    ) -> Result<()> {
        loop {
            let (at, connected, readable) = self.wait()?;
            for index in readable {
                for line in self.streams[index].lines() {
                    seen(at, Seen::Line(self.streams[index].name, line))?;
                }
            }
            if connected {
                return seen(at, Seen::Connected);
            }
            if self.streams.iter().all(|stream| stream.ended) {
                bail!("all processes have ended");
            }
        }
    }

    fn wait(&self) -> Result<(Duration, bool, Vec<usize>)> {
        let open: Vec<_> = (0..self.streams.len()).filter(|i| !self.streams[*i].ended).collect();
        let mut fds: Vec<_> = [self.listener.as_fd()]
            .into_iter()
            .chain(open.iter().map(|index| self.streams[*index].file.as_fd()))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, PollTimeout::from(PATIENCE)) {
            Ok(0) => bail!("nothing has happened for a minute"),
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok((self.start.elapsed(), false, Vec::new())),
            Err(error) => return Err(error.into()),
        }
        let at = self.start.elapsed();
        let ready = |fd: &PollFd| fd.any().unwrap_or(true);
        let readable = open.into_iter().zip(&fds[1..]).filter(|(_, fd)| ready(fd));
        Ok((at, ready(&fds[0]), readable.map(|(index, _)| index).collect()))
    }
}

impl Stream {
    /// Reads once; returns the lines that are complete.
    fn lines(&mut self) -> Vec<String> {
        let mut chunk = [0; 4096];
        match self.file.read(&mut chunk) {
            Ok(0) | Err(_) => self.ended = true,
            Ok(read) => self.partial.extend_from_slice(&chunk[..read]),
        }
        let mut lines = Vec::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        lines
    }
}
