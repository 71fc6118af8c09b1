//! Sees what the processes of a machine say, and when.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

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
    /// Tells of growth where `file` is a regular file.
    growth: Option<Inotify>,
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
        self.push(name, stream.into(), None);
    }

    /// Also watches the file at `path` grow.
    pub fn follow(&mut self, name: &'static str, path: &Path) -> Result<()> {
        let growth = Inotify::init(InitFlags::IN_NONBLOCK)?;
        growth.add_watch(path, AddWatchFlags::IN_MODIFY)?;
        self.push(name, File::open(path)?, Some(growth));
        Ok(())
    }

    fn push(&mut self, name: &'static str, file: File, growth: Option<Inotify>) {
        self.streams.push(Stream { name, file, growth, partial: Vec::new(), ended: false });
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
            if self.streams.iter().all(|stream| stream.ended || stream.growth.is_some()) {
                bail!("all processes have ended");
            }
        }
    }

    fn wait(&self) -> Result<(Duration, bool, Vec<usize>)> {
        let open: Vec<_> = (0..self.streams.len()).filter(|i| !self.streams[*i].ended).collect();
        let mut fds: Vec<_> = [self.listener.as_fd()]
            .into_iter()
            .chain(open.iter().map(|index| self.streams[*index].poll_fd()))
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
    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.growth.as_ref().map_or_else(|| self.file.as_fd(), |growth| growth.as_fd())
    }

    /// Reads once; returns the lines that are complete.
    fn lines(&mut self) -> Vec<String> {
        if let Some(growth) = &self.growth {
            // What has grown is read below, whatever the events say.
            let _ = growth.read_events();
        }
        let mut chunk = vec![0; 64 * 1024];
        match self.file.read(&mut chunk) {
            Ok(0) | Err(_) => self.ended = self.growth.is_none(),
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
