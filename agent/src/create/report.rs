//! What the creating child and the first process report to the agent: datagrams of
//! a kind byte and text. All are there when the child has ended.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::path::Path;

use rustix::net::{RecvFlags, recv};
use rustix::process::Pid;
use tokio::net::UnixDatagram;

use super::CreateError;
use crate::paths;

/// Longest message; the rest of a longer text is cut off.
const MAX_MESSAGE: usize = 4096;

/// Most lines of libcontainer's log that are kept for an error. A failure logs
/// one line per layer; more would only hide the cause.
const MAX_LOG: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Why the container cannot be run, in the words of runc.
    Refused(String),
    /// A line that libcontainer logged as an error.
    Logged(String),
    /// What libcontainer returned as an error.
    Failed(String),
    /// The process is there, and this is its number.
    Created(i32),
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        let (kind, text) = match self {
            Self::Refused(text) => (b'R', text.clone()),
            Self::Logged(text) => (b'L', text.clone()),
            Self::Failed(text) => (b'F', text.clone()),
            Self::Created(pid) => (b'C', pid.to_string()),
        };
        let mut message = vec![kind];
        message.extend_from_slice(text.as_bytes());
        message.truncate(MAX_MESSAGE);
        message
    }

    fn decode(message: &[u8]) -> Option<Self> {
        let (kind, text) = message.split_first()?;
        let text = String::from_utf8_lossy(text).into_owned();
        match kind {
            b'R' => Some(Self::Refused(text)),
            b'L' => Some(Self::Logged(text)),
            b'F' => Some(Self::Failed(text)),
            b'C' => text.parse().ok().map(Self::Created),
            _ => None,
        }
    }

    /// A message that has arrived, whether the runtime has heard of it or not.
    pub fn arrived(socket: &UnixDatagram) -> Option<Option<Self>> {
        let mut message = [0; MAX_MESSAGE];
        let (length, _) = recv(socket, &mut message, RecvFlags::DONTWAIT).ok()?;
        Some(Self::decode(&message[..length]))
    }

    pub async fn receive(socket: &UnixDatagram) -> io::Result<Option<Self>> {
        let mut message = [0; MAX_MESSAGE];
        let length = socket.recv(&mut message).await?;
        Ok(Self::decode(&message[..length]))
    }
}

/// The child's end of the socket.
pub struct Reporter {
    socket: net::UnixDatagram,
}

impl Reporter {
    /// The end that the agent passed.
    pub fn inherited(socket: OwnedFd) -> Self {
        Self { socket: socket.into() }
    }

    /// Connects to the agent's socket in `bundle`.
    pub fn connect(bundle: &Path) -> io::Result<Self> {
        let socket = net::UnixDatagram::unbound()?;
        socket.connect(bundle.join(paths::REPORT_SOCKET))?;
        Ok(Self { socket })
    }

    /// Another handle of the same end.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()? })
    }

    /// Sends a message. A failure has no reader, and the agent
    /// notices by the child's end.
    pub fn send(&self, report: &Report) {
        let _ = self.socket.send(&report.encode());
    }
}

/// All that was reported of one creation.
#[derive(Default)]
pub struct Outcome {
    refused: Option<String>,
    failed: Option<String>,
    created: Option<i32>,
    log: Vec<String>,
}

impl Outcome {
    pub fn add(&mut self, report: Option<Report>) {
        match report {
            Some(Report::Refused(text)) => drop(self.refused.get_or_insert(text)),
            Some(Report::Failed(text)) => drop(self.failed.get_or_insert(text)),
            Some(Report::Created(pid)) => self.created = Some(pid),
            Some(Report::Logged(line)) if self.log.len() < MAX_LOG => self.log.push(line),
            Some(Report::Logged(_)) | None => {}
        }
    }

    /// What it comes to, when the child has ended with `status`.
    pub fn finish(self, status: u32) -> Result<Pid, CreateError> {
        if let Some(refused) = self.refused {
            return Err(CreateError::Failed(refused));
        }
        if let Some(failed) = self.failed {
            return Err(CreateError::Failed(explain(&failed, &self.log)));
        }
        if let Some(pid) = self.created.filter(|number| *number > 0).and_then(Pid::from_raw) {
            return Ok(pid);
        }
        let hint = if status == 137 { " (killed: the guest is out of memory?)" } else { "" };
        Err(CreateError::Died { status, hint })
    }
}

/// What each layer of libcontainer puts before the error of the one below.
const LAYERS: &[&str] = &[
    "failed to create container: ",
    "exec process failed with error ",
    "error in executing process : ",
    "intermediate process error ",
];

/// What the outer layers log when an inner one has failed.
const ECHOES: &[&str] = &[
    "failed to initialize container process",
    "failed to run intermediate process",
    "failed to run container process",
    "failed to wait for",
];

/// libcontainer's errors name what failed and its log has the causes, from the inside
/// to the outside, where it only repeats itself.
fn explain(failed: &str, log: &[String]) -> String {
    let mut failed = failed;
    while let Some(inner) = LAYERS.iter().find_map(|layer| failed.strip_prefix(layer)) {
        failed = inner;
    }
    let mut text = failed.to_owned();
    let inner = |line: &&str| !ECHOES.iter().any(|echo| line.starts_with(echo));
    for line in log.iter().map(|line| line.trim()).take_while(inner) {
        if !line.is_empty() && !text.contains(line) {
            text = format!("{text}: {line}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
