//! Network namespaces of the host.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::netlink::raise_loopback;

/// The namespace of the thread that looks.
const OWN: &str = "/proc/thread-self/ns/net";
/// The namespace that this process was started in.
const HOST: &str = "/proc/self/ns/net";

/// A namespace that cannot be used.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The path of the spec leads nowhere.
    #[error(
        "cannot open the network namespace {path} that the container's spec names", path = path.display()
    )]
    Open { path: PathBuf, source: io::Error },
    #[error("{path} in the container's spec is not a network namespace", path = path.display())]
    NotOne { path: PathBuf },
    #[error("cannot make a network namespace")]
    Make(#[source] io::Error),
    #[error("cannot open the network namespace of the host")]
    Host(#[source] io::Error),
}

/// A network namespace. It lives as long as a clone of this, or a process in
/// it, does: nothing on disk is left to remove.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    file: Arc<File>,
}

impl Namespace {
    /// The one at a path.
    pub fn open(path: &Path) -> Result<Self, NamespaceError> {
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file =
            opened.map_err(|source| NamespaceError::Open { path: path.to_owned(), source })?;
        let namespace = Self { file: Arc::new(file) };
        // Anything but a network namespace refuses to be entered.
        match namespace.inside(|| ()) {
            Ok(()) => Ok(namespace),
            Err(_) => Err(NamespaceError::NotOne { path: path.to_owned() }),
        }
    }

    /// A new one, whose loopback is up.
    pub fn make() -> Result<Self, NamespaceError> {
        let made = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            raise_loopback()?;
            File::open(OWN)
        });
        made.map(|file| Self { file: Arc::new(file) }).map_err(NamespaceError::Make)
    }

    /// The one of this process: the host's.
    pub fn host() -> Result<Self, NamespaceError> {
        let opened = File::open(HOST).map_err(NamespaceError::Host)?;
        Ok(Self { file: Arc::new(opened) })
    }

    /// Whether it is the host's under another path.
    pub fn is_host(&self) -> Result<bool, NamespaceError> {
        let of = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let own = fs::metadata(HOST).map(of).map_err(NamespaceError::Host)?;
        Ok(self.file.metadata().map(of).map_err(NamespaceError::Host)? == own)
    }

    /// Does something in it, on a thread that ends after it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| {
            setns(&*self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
    }

    /// For a process that is to enter it.
    pub fn fd(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A thread that changes its namespace is of no use for anything else.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

#[cfg(test)]
mod tests;
