use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_vsock::VsockStream;

/// A two-way byte stream to the host.
pub trait Connection: AsyncRead + AsyncWrite + AsFd + Send + Sized + Unpin {
    /// Whether the host has closed it, rather than only ended its own side.
    fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(self, PollFlags::empty())];
        let hung_up = poll(&mut fds, Some(&Timespec::default())).is_ok()
            && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        // Writing nothing sends nothing, but fails where writing would.
        hung_up || send(self, &[], SendFlags::NOSIGNAL).is_err()
    }
}

impl Connection for VsockStream {}
impl Connection for UnixStream {}
