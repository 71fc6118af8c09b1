//! The master of a pseudoterminal. Closing it hangs up on the processes of its
//! session (SIGHUP), which happens when their container is deleted.

use std::io;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{Uid, fchown};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::readiness;

pub struct Terminal {
    master: AsyncFd<OwnedFd>,
}

impl Terminal {
    /// Takes a master as openpty(3) gives it.
    pub fn new(master: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&master, true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Self { master: readiness::watch(master, interest)? })
    }

    /// Makes `uid` the owner of the other side, so that its programs can open
    /// their terminal anew.
    pub fn give_to(&self, uid: u32) -> io::Result<()> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(self.master.get_ref(), flags)?;
        Ok(fchown(slave, Some(Uid::from_raw(uid)), None)?)
    }

    /// Sets the size that programs see; the kernel sends them SIGWINCH.
    pub fn resize(&self, columns: u16, lines: u16) -> io::Result<()> {
        let size = Winsize { ws_col: columns, ws_row: lines, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.master.get_ref(), size)?)
    }

    /// Appends output to `buf`, within its capacity; returns 0 when no process
    /// has the terminal open any more.
    pub async fn read(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let mut ready = self.master.readable().await?;
            let read = ready.try_io(|fd| Ok(read_master(fd.get_ref(), buf)?));
            match read {
                Ok(Err(e)) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(0),
                Ok(read) => return read,
                Err(_would_block) => {}
            }
        }
    }

    /// Writes input, at least one byte of it.
    pub async fn write(&self, buf: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.writable().await?;
            if let Ok(written) = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), buf)?)) {
                return written;
            }
        }
    }
}

/// EIO means that no process has the other side open any more, and need not come
/// after the last that was written there: the kernel (`n_tty_read`) waits for
/// output that was on its way when it began to look, and looks whether the other
/// side is closed after that. A second read waits for all of it.
fn read_master(master: &OwnedFd, buf: &mut Vec<u8>) -> Result<usize, Errno> {
    match rustix::io::read(master, spare_capacity(buf)) {
        Err(Errno::IO) => rustix::io::read(master, spare_capacity(buf)),
        read => read,
    }
}
