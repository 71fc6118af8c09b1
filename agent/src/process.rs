//! A process that the shim knows: a container's first, or one run in it.

use std::io;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::reaper::{Exit, ExitWatch};
use crate::signal::{self, MAX_SIGNAL};
use crate::stdio::Stdio;

/// A process that cannot be signalled.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("process already finished")]
    Finished,
    #[error("signal {0} does not exist: signals are 1 to {MAX_SIGNAL}")]
    Signal(u32),
    #[error("cannot send signal {number}: {source}")]
    Send { number: u32, source: io::Error },
}

pub struct Process {
    pid: Pid,
    pub stdio: Stdio,
    exit: ExitWatch,
}

impl Process {
    /// A running process, whose exit `exit` yields.
    pub fn new(pid: Pid, stdio: Stdio, exit: ExitWatch) -> Self {
        Self { pid, stdio, exit }
    }

    /// Its number in the guest.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Yields its exit, now or later.
    pub fn exit(&self) -> ExitWatch {
        self.exit.clone()
    }

    /// Sends it a signal. Until the exit is known its number is its own,
    /// because only the reaper frees numbers, and it publishes the exit at once.
    pub fn signal(&self, number: u32) -> Result<(), ProcessError> {
        if self.exited().is_some() {
            return Err(ProcessError::Finished);
        }
        signal::send(self.pid, number).map_err(|errno| match errno {
            Errno::SRCH => ProcessError::Finished,
            errno => ProcessError::Send { number, source: errno.into() },
        })
    }
}

/// Refuses numbers that no signal has.
pub fn check_signal(number: u32) -> Result<(), ProcessError> {
    if (1..=MAX_SIGNAL).contains(&number) { Ok(()) } else { Err(ProcessError::Signal(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_1_to_64() {
        for number in [1, 9, 15, 32, 33, 34, 64] {
            assert!(check_signal(number).is_ok(), "{number}");
        }
        for number in [0, 65, 128, u32::MAX] {
            assert!(
                matches!(check_signal(number), Err(ProcessError::Signal(n)) if n == number),
                "{number}"
            );
        }
    }
}
