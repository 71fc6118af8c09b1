//! The socket on which a shim serves containerd.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use containerd_shim::StartOpts;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::bundle::Bundle;

#[cfg(test)]
mod tests;

const SCHEME: &str = "unix://";

/// How long a killed shim may hold its socket; containerd gives `delete` 5 s.
const DYING_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at it.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

#[derive(Debug, Error)]
pub enum SocketError {
    #[error("cannot use the socket directory {path}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot listen on {path}")]
    Listen { path: PathBuf, source: io::Error },
}

#[derive(Debug)]
pub enum Claim {
    /// The socket is ours to serve.
    Ours(UnixListener),
    /// A living shim serves it.
    Served,
}

/// Where a shim listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShimSocket {
    path: PathBuf,
}

impl ShimSocket {
    /// The socket of a pod, named as containerd's own shims name theirs, so
    /// that containerd instances and namespaces do not collide.
    pub fn of_pod(dir: &Path, grpc_address: &str, namespace: &str, pod: &str) -> Self {
        let options = StartOpts {
            address: grpc_address.to_owned(),
            namespace: namespace.to_owned(),
            socket_dir: Some(dir.display().to_string()),
            ..StartOpts::default()
        };
        Self::at(&options.socket_address(pod))
    }

    /// The socket at an address as [`ShimSocket::address`] gives it.
    pub fn at(address: &str) -> Self {
        let path = address.strip_prefix(SCHEME).unwrap_or(address);
        Self { path: path.into() }
    }

    /// Its address, for containerd.
    pub fn address(&self) -> String {
        format!("{SCHEME}{}", self.path.display())
    }

    /// Listens, or finds the shim that does. A socket without a shim is stale
    /// and replaced. Callers at the same time get one [`Claim::Ours`].
    pub fn claim(&self) -> Result<Claim, SocketError> {
        let _lock = self.lock()?;
        match UnixListener::bind(&self.path) {
            Ok(listener) => self.private(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => self.claim_taken(),
            Err(source) => Err(self.cannot_listen(source)),
        }
    }

    fn claim_taken(&self) -> Result<Claim, SocketError> {
        if self.is_served() {
            return Ok(Claim::Served);
        }
        fs::remove_file(&self.path)
            .and_then(|()| UnixListener::bind(&self.path))
            .map_err(|source| self.cannot_listen(source))
            .and_then(|listener| self.private(listener))
    }

    fn private(&self, listener: UnixListener) -> Result<Claim, SocketError> {
        fs::set_permissions(&self.path, Permissions::from_mode(0o600))
            .map_err(|source| self.cannot_listen(source))?;
        Ok(Claim::Ours(listener))
    }

    /// True if a live shim serves it. A killed shim holds the socket until its last
    /// thread, and the last child that it was starting, is gone; this waits for
    /// that. `bundle` names the process.
    pub fn is_served_by_live_shim(&self, bundle: &Bundle) -> bool {
        let end = Instant::now() + DYING_TIMEOUT;
        while self.is_served() {
            if !bundle.shim_has_ended() || Instant::now() >= end {
                return true;
            }
            thread::sleep(POLL_INTERVAL);
        }
        false
    }

    /// Whether a shim listens.
    pub fn is_served(&self) -> bool {
        UnixStream::connect(&self.path).is_ok()
    }

    /// Identity of the file; another shim's of the same name has another.
    pub fn identity(&self) -> Option<(u64, u64)> {
        let meta = fs::symlink_metadata(&self.path).ok()?;
        Some((meta.dev(), meta.ino()))
    }

    /// Removes the file if it is still the one with this identity.
    pub fn remove(&self, identity: (u64, u64)) {
        let Ok(_lock) = self.lock() else { return };
        if self.identity() == Some(identity) {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Removes the file if no process listens on it.
    pub fn remove_stale(&self) {
        if self.identity().is_none() {
            return;
        }
        let Ok(_lock) = self.lock() else { return };
        if self.identity().is_some() && !self.is_served() {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Locks the directory of sockets against other starts and deletes. The directory
    /// itself is the lock, so that no file stays behind.
    fn lock(&self) -> Result<Flock<File>, SocketError> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let failed = |source| SocketError::Folder { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let file = File::open(dir).map_err(failed)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno.into()))
    }

    fn cannot_listen(&self, source: io::Error) -> SocketError {
        SocketError::Listen { path: self.path.clone(), source }
    }
}
