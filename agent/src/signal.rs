//! Signals by number, real-time ones too.

use std::io;

use rustix::process::Pid;

/// Highest signal number of Linux (`SIGRTMAX`).
pub const MAX_SIGNAL: u32 = 64;

/// `SIGKILL`.
pub const SIGKILL: u32 = 9;

/// Sends signal `number` (1 to [`MAX_SIGNAL`]) to one process. Process groups
/// and "everybody" cannot be named, because a [`Pid`] is above zero.
pub fn send(pid: Pid, number: u32) -> io::Result<()> {
    let number = i32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: kill(2) takes two integers and touches no memory. The crates
    // with safe wrappers know no real-time signals.
    match unsafe { libc::kill(pid.as_raw_nonzero().get(), number) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
