//! The control socket: the shim's launch message in, reports out, and the end
//! of the shim as the end of the process.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use sandbox_vm_spec::Fd;
use sandbox_vm_spec::launch::{CONTROL_FD, Launch, MAX_LINE, Report};

/// Stack of the thread that only waits for the shim to go away.
const WATCHER_STACK: usize = 64 * 1024;

/// The exchange with the shim failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The control descriptor is not what the shim passes.
    #[error(
        "file descriptor {CONTROL_FD} is not a control socket; sandbox-vmm is started by the shim, not by hand"
    )]
    NotStartedByShim(#[source] io::Error),
    #[error("cannot set the parent-death signal")]
    DeathSignal(#[source] io::Error),
    #[error("cannot read the launch message from the shim")]
    Read(#[source] io::Error),
    #[error("the shim exited before it sent the launch message")]
    Eof,
    #[error("the launch message is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("the shim sent {0} bytes after the launch message")]
    Trailing(usize),
    /// The line is not a launch message.
    #[error("invalid launch message; install shim and sandbox-vmm of one version")]
    Parse(#[source] serde_json::Error),
    /// A descriptor named in the launch message is not open.
    #[error("file descriptor {fd}, the {what} by the launch message, was not passed")]
    Descriptor { fd: Fd, what: &'static str, source: io::Error },
    #[error("cannot send a report to the shim")]
    Report(#[source] io::Error),
    /// The thread that watches the shim could not be started.
    #[error("cannot start the thread that watches the shim")]
    Watch(#[source] io::Error),
}

/// The process's end of the control socket.
#[derive(Debug)]
pub struct Control {
    reader: UnixStream,
    writer: Mutex<UnixStream>,
}

impl Control {
    /// Takes the control socket that the shim passed, and arranges that the
    /// process is killed with the thread of the shim that started it. A shim
    /// that died before this call shows as EOF in [`Control::launch`].
    pub fn take() -> Result<Self, ControlError> {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| ControlError::DeathSignal(e.into()))?;
        let socket = take_fd(CONTROL_FD).map_err(ControlError::NotStartedByShim)?;
        nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::SockType)
            .map_err(|e| ControlError::NotStartedByShim(e.into()))?;
        Self::new(socket.into()).map_err(ControlError::NotStartedByShim)
    }

    fn new(reader: UnixStream) -> io::Result<Self> {
        let writer = Mutex::new(reader.try_clone()?);
        Ok(Self { reader, writer })
    }

    /// Reads the launch message, the one line that the shim sends.
    pub fn launch(&self) -> Result<Launch, ControlError> {
        let mut line = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let read = (&self.reader).read(&mut chunk).map_err(ControlError::Read)?;
            if read == 0 {
                return Err(ControlError::Eof);
            }
            let fresh = line.len();
            line.extend_from_slice(&chunk[..read]);
            if let Some(end) = line[fresh..].iter().position(|b| *b == b'\n') {
                let end = fresh + end;
                return parse(&line[..end], line.len() - end - 1);
            }
            if line.len() > MAX_LINE {
                return Err(ControlError::TooLong);
            }
        }
    }

    /// Sends one report to the shim.
    pub fn report(&self, report: &Report) -> Result<(), ControlError> {
        self.report_all(std::slice::from_ref(report))
    }

    /// Sends reports to the shim, in one write.
    pub fn report_all(&self, reports: &[Report]) -> Result<(), ControlError> {
        let mut lines = Vec::new();
        for report in reports {
            serde_json::to_writer(&mut lines, report)
                .map_err(|e| ControlError::Report(io::Error::other(e)))?;
            lines.push(b'\n');
        }
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        (&*writer).write_all(&lines).map_err(ControlError::Report)
    }

    /// Returns when the shim has exited, or has broken the protocol by a second
    /// message.
    pub fn wait_for_end(&self) {
        loop {
            match (&self.reader).read(&mut [0; 1]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }

    /// Exits with status 0 when the shim exits. Starts a thread: the jail is to
    /// be entered before.
    pub fn watch(&self) -> Result<(), ControlError> {
        let reader = self.reader.try_clone().map_err(ControlError::Watch)?;
        let writer = Mutex::new(reader.try_clone().map_err(ControlError::Watch)?);
        let control = Self { reader, writer };
        thread::Builder::new()
            .name("control".into())
            .stack_size(WATCHER_STACK)
            .spawn(move || {
                control.wait_for_end();
                exit_now(0)
            })
            .map_err(ControlError::Watch)?;
        Ok(())
    }
}

impl AsFd for Control {
    /// Readable when the shim has exited.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

fn parse(line: &[u8], trailing: usize) -> Result<Launch, ControlError> {
    if line.len() > MAX_LINE {
        return Err(ControlError::TooLong);
    }
    if trailing != 0 {
        return Err(ControlError::Trailing(trailing));
    }
    serde_json::from_slice(line).map_err(ControlError::Parse)
}

/// Ends the process without running destructors or exit handlers, which other
/// threads could be in the way of.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes no pointer and never returns.
    unsafe { libc::_exit(status) }
}

/// Closes every inherited descriptor that the launch message does not name,
/// except the standard ones.
pub fn close_strangers() -> io::Result<()> {
    let listed = std::fs::read_dir("/proc/self/fd")?;
    let fds: Vec<Fd> =
        listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in fds.into_iter().filter(|fd| *fd > 2) {
        // Fails for a descriptor with FD_CLOEXEC: one that was taken before,
        // or that this process opened.
        drop(take_fd(fd));
    }
    Ok(())
}

/// Takes ownership of a descriptor that the launch message names as `what`.
/// Each is taken once.
pub fn inherited(fd: Fd, what: &'static str) -> Result<OwnedFd, ControlError> {
    let refused = |source| ControlError::Descriptor { fd, what, source };
    if fd <= CONTROL_FD {
        return Err(refused(io::ErrorKind::InvalidInput.into()));
    }
    take_fd(fd).map_err(refused)
}

/// Owns an inherited descriptor and keeps it from any program executed later.
/// One that is closed on exec already is ours and not the shim's: refused, so
/// that a launch message that names a descriptor twice is, too.
fn take_fd(fd: Fd) -> io::Result<OwnedFd> {
    // SAFETY: borrowed for the two calls below; a number that is not open is
    // answered with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd.max(0)) };
    let flags = FdFlag::from_bits_retain(fcntl(borrowed, FcntlArg::F_GETFD)?);
    if flags.contains(FdFlag::FD_CLOEXEC) {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: open, and without the flag that everything this process opens
    // or has taken before has: it has no other owner here.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests;
