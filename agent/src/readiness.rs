//! Readiness of descriptors for which tokio has no type.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd` with the runtime for `interest`.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and stays the same one until it is dropped,
    // which only the AsyncFd that now owns it can do.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
