//! The first line on a connection to [`STDIO_PORT`](crate::STDIO_PORT).
//!
//! The host sends `<container id> <exec id or -> <stdin|stdout|stderr>\n`; the
//! agent answers `OK\n`, or `ERR <reason>\n` and closes. After that the
//! connection carries the bytes of the stream alone. The end of stdin is the
//! host shutting down its sending side; the end of stdout or stderr is the
//! agent doing so. A stream can be fetched once at a time; a process
//! blocks when its pipe is full and its stream is not fetched.

use std::fmt;
use std::str::FromStr;

/// Longest header or answer line, newline included: two ids of 256 bytes, the
/// name of the stream and separators, with room for an error's text. A peer
/// that sends more without a newline is cut off.
pub const MAX_LINE: usize = 1024;

/// One of the three standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamName {
    /// Bytes from the host to the process.
    Stdin,
    /// Bytes from the process, or from its terminal.
    Stdout,
    /// Bytes from the process; absent with a terminal.
    Stderr,
}

impl StreamName {
    /// The name as it stands in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Names one stream of one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamHeader {
    /// Container that the process is in.
    pub container_id: String,
    /// Empty for the container's first process.
    pub exec_id: String,
    /// Which of its streams.
    pub stream: StreamName,
}

/// `{0:?} is not "<container> <exec or -> <stdin|stdout|stderr>"`
#[derive(Debug, PartialEq, Eq)]
pub struct BadHeader(String);

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not \"<container> <exec or -> <stdin|stdout|stderr>\"", self.0)
    }
}

impl std::error::Error for BadHeader {}

/// The header without its newline.
impl fmt::Display for StreamHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exec = if self.exec_id.is_empty() { "-" } else { &self.exec_id };
        write!(f, "{} {exec} {}", self.container_id, self.stream.as_str())
    }
}

impl FromStr for StreamHeader {
    type Err = BadHeader;

    fn from_str(line: &str) -> Result<Self, BadHeader> {
        let bad = || BadHeader(line.chars().take(80).collect());
        let mut words = line.split(' ');
        let (Some(container), Some(exec), Some(stream), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad());
        };
        if container.is_empty() || exec.is_empty() {
            return Err(bad());
        }
        let stream = match stream {
            "stdin" => StreamName::Stdin,
            "stdout" => StreamName::Stdout,
            "stderr" => StreamName::Stderr,
            _ => return Err(bad()),
        };
        let exec_id = if exec == "-" { String::new() } else { exec.to_owned() };
        Ok(Self { container_id: container.to_owned(), exec_id, stream })
    }
}

#[cfg(test)]
mod tests;
