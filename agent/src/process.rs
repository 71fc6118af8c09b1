//! A process that the shim knows: a container's first, or one run in it.

use rustix::process::Pid;

use crate::error::Error;
use crate::reaper::{Exit, ExitWatch};
use crate::signal::{self, MAX_SIGNAL};
use crate::stdio::Stdio;

/// See the module.
pub struct Process {
    pid: Pid,
    /// Its standard streams.
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
    /// because only the reaper frees numbers, and it tells at once.
    pub fn signal(&self, number: u32) -> Result<(), Error> {
        if self.exited().is_some() {
            return Err(Error::Finished);
        }
        match signal::send(self.pid, number) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Err(Error::Finished),
            sent => sent.map_err(Error::io(format!("sending signal {number}"))),
        }
    }
}

/// Refuses numbers that no signal has.
pub fn check_signal(number: u32) -> Result<(), Error> {
    if (1..=MAX_SIGNAL).contains(&number) { Ok(()) } else { Err(Error::Signal(number)) }
}

#[cfg(test)]
mod tests;
