use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{after_colon, shim_gone};
use crate::console::Console;
use crate::control::Control;

/// Bytes of what QEMU printed last that are kept for the error.
const MAX_PRINTED: usize = 2048;
/// Bytes read at once.
const BLOCK: usize = 4096;

/// This end of QEMU's stdout, which is the guest's console, and stderr.
pub struct Output {
    console: Option<File>,
    errors: Option<File>,
    printed: Vec<u8>,
}

impl Output {
    /// Two pipes; QEMU's ends of them.
    pub fn new() -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (console, stdout) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (errors, stderr) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (console, errors) = (Some(File::from(console)), Some(File::from(errors)));
        Ok((Self { console, errors, printed: Vec::new() }, stdout, stderr))
    }

    /// Copies the console into its log until QEMU has closed both; returns
    /// what it printed last.
    pub fn follow(mut self, control: &Control, mut log: Console) -> io::Result<String> {
        while self.console.is_some() || self.errors.is_some() {
            if self.wait(control)? {
                shim_gone();
            }
            self.copy_console(&mut log)?;
            self.copy_errors()?;
        }
        log.finish();
        Ok(after_colon(&self.printed))
    }

    /// What a QEMU that was not executed has printed.
    pub fn rest(mut self) -> String {
        if let Some(errors) = self.errors.take() {
            // Best effort: the caller reports another error.
            let _ = errors.take(MAX_PRINTED as u64).read_to_end(&mut self.printed);
        }
        after_colon(&self.printed)
    }

    /// Waits for anything; returns whether the shim is gone.
    fn wait(&self, control: &Control) -> io::Result<bool> {
        let files = [self.console.as_ref(), self.errors.as_ref()];
        let mut fds = vec![PollFd::new(control.as_fd(), PollFlags::POLLIN)];
        fds.extend(files.into_iter().flatten().map(|f| PollFd::new(f.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => Ok(fds[0].any().unwrap_or(true)),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn copy_console(&mut self, log: &mut Console) -> io::Result<()> {
        let mut block = [0; BLOCK];
        match read_ready(&mut self.console, &mut block)? {
            Some(read) => log.write_all(&block[..read]),
            None => Ok(()),
        }
    }

    fn copy_errors(&mut self) -> io::Result<()> {
        let mut block = [0; BLOCK];
        if let Some(read) = read_ready(&mut self.errors, &mut block)? {
            self.printed.extend_from_slice(&block[..read]);
            let surplus = self.printed.len().saturating_sub(MAX_PRINTED);
            self.printed.drain(..surplus);
        }
        Ok(())
    }
}

/// Reads what is there without waiting; forgets the file at its end.
fn read_ready(file: &mut Option<File>, block: &mut [u8]) -> io::Result<Option<usize>> {
    let Some(open) = file else { return Ok(None) };
    let mut fds = [PollFd::new(open.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::ZERO).unwrap_or(0);
    if ready == 0 {
        return Ok(None);
    }
    match open.read(block)? {
        0 => {
            *file = None;
            Ok(None)
        }
        read => Ok(Some(read)),
    }
}
