//! Signals by number, real-time ones too.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

/// Highest signal number of Linux (`SIGRTMAX`).
pub const MAX_SIGNAL: u32 = 64;

/// `SIGKILL`.
pub const SIGKILL: u32 = 9;

/// Sends signal `number` (1 to [`MAX_SIGNAL`]) to one process. A [`Pid`] is above
/// zero, so it cannot stand for a process group or for every process.
pub fn send(pid: Pid, number: u32) -> Result<(), Errno> {
    let number = i32::try_from(number).ok().filter(|number| *number > 0).ok_or(Errno::INVAL)?;
    // SAFETY: the number goes to kill(2) alone, which takes any; real-time
    // signals that the C library keeps for itself are none of the agent's.
    kill_process(pid, unsafe { Signal::from_raw_unchecked(number) })
}
