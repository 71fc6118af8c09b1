//! Time limits, so that a peer that stalls does not keep the others from being measured.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};

/// The error of a time limit; found by `downcast_ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled;

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stalled")
    }
}

impl std::error::Error for Stalled {}

/// `limit` on an idle machine, stretched by the processes that wait for a CPU now.
pub fn under_load(limit: Duration) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    limit.mul_f64(factor(&load, cores))
}

/// How many processes share a CPU, from the load of the last minute.
fn factor(load: &str, cores: usize) -> f64 {
    let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    (load / cores as f64).max(1.0)
}

/// The output of a program, which is killed after `limit` (see [`under_load`]).
pub fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    let limit = under_load(limit);
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

/// The first line of a pipe, within `limit` (see [`under_load`]). The thread that
/// reads ends with the writer of the pipe.
pub fn line(from: impl Read + Send + 'static, limit: Duration) -> Result<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(from).read_line(&mut line);
        sender.send(read.map(|_| line))
    });
    Ok(receiver.recv_timeout(under_load(limit)).map_err(|_| Error::new(Stalled))??)
}

#[cfg(test)]
mod tests;
