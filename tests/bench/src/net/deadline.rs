//! What a peer that stalls may not do: keep the others from being measured.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};

/// What it comes to when the time is over; found by `downcast_ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled;

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stalled")
    }
}

impl std::error::Error for Stalled {}

/// What a program of few words printed, which is killed after so long.
pub fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    let (started, piped) = (Instant::now(), command.stdin(Stdio::null()));
    let mut child = piped.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    while child.try_wait()?.is_none() {
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Err(Error::new(Stalled));
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().context("what it printed")
}

/// The first line of it. Whoever made the pipe ends the writer, and with it
/// the reader that is left behind when the time is over.
pub fn line(from: impl Read + Send + 'static, limit: Duration) -> Result<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(from).read_line(&mut line);
        sender.send(read.map(|_| line))
    });
    Ok(receiver.recv_timeout(limit).map_err(|_| Error::new(Stalled))??)
}

#[cfg(test)]
mod tests;
