//! A pod's directory: the files of a pod.
//!
//! ```text
//! <state_dir>/<16 hex>/   0700, locked by the shim as long as it lives
//!     state.json          0600
//!     console.log         0600
//!     net.sock            0600, where the io process takes requests
//!     policy.json         0600, the policies in force
//!     audit.*.jsonl       0600, unless the configuration keeps audits elsewhere
//!     resolv.conf         of a pod in the developer network
//!     hooks/              a file for each container whose OCI hooks were run
//!     vsock/              vsock.sock, vsock.sock_1024: root of the io process
//!     tree/               mount points, made by the shim
//!     share/              read-only view of tree/ with all mounts on it: root
//!                         of the fs process, seen by the guest
//! ```
//!
//! The guest writes into `share` only through the mounts on it, so that it cannot
//! fill the host's `/run`, and no file of a guest is ever removed recursively.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use sandbox_agent_protocol::AGENT_PORT;

use crate::failure::ErrorKind;
use crate::id::PodId;
use crate::mounts::{GUARDED, MountError, unmount_below};

/// Name of the socket that the io process listens on.
const VSOCK: &str = "vsock.sock";
/// Names in the directory.
const NETWORK: &str = "net.sock";
const POLICIES: &str = "policy.json";
/// Most attempts to create a directory that others remove at the same time.
const MAX_TRIES: usize = 20;
/// Longest time that a lock outlives its holder: a child that the holder had
/// just forked has a copy of the descriptor until it executes its program.
/// flock(2) has no timeout, so the lock is polled.
const STRAGGLERS: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(5);

/// A pod's directory cannot be made or removed.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum PodDirectoryError {
    /// A system call on a path failed.
    #[error("cannot {what} {path}", path = path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("sandbox {pod} is running already: its directory {path} is in use", path = path.display())]
    InUse { pod: String, path: PathBuf },
    #[error(transparent)]
    Mount(#[from] MountError),
}

impl PodDirectoryError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } => ErrorKind::AlreadyExists,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Io { .. } => ErrorKind::Internal,
            Self::Mount(e) => e.kind(),
        }
    }
}

fn on<T>(what: &'static str, path: &Path, result: io::Result<T>) -> Result<T, PodDirectoryError> {
    result.map_err(|source| PodDirectoryError::Io { what, path: path.to_owned(), source })
}

/// A pod's directory, held by its lock.
#[derive(Debug)]
pub(crate) struct PodDirectory {
    path: PathBuf,
    _lock: OwnedFd,
}

impl PodDirectory {
    /// Creates the directory of a pod that is to start. `clear` removes what a
    /// dead shim left there; the directory of a living shim is refused.
    pub fn create(
        state_dir: &Path,
        id: &PodId,
        clear: impl Fn(Self, &PodId) -> Result<(), PodDirectoryError>,
    ) -> Result<Self, PodDirectoryError> {
        make_state_dir(state_dir)?;
        let path = state_dir.join(id.directory());
        for _ in 0..MAX_TRIES {
            let new = make_dir(&path);
            if let Err(error) = &new
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                on("create the directory", &path, new)?;
            }
            let Some(directory) = Self::open(path.clone())? else { continue };
            if directory.is_empty()? {
                return Ok(directory);
            }
            tracing::warn!("removing what a dead shim left of sandbox {id} in {}", path.display());
            clear(directory, id)?;
        }
        Err(PodDirectoryError::InUse { pod: id.to_string(), path })
    }

    /// Locks the directory at `path`; an error while another process holds it.
    /// None if it does not exist.
    pub fn open(path: PathBuf) -> Result<Option<Self>, PodDirectoryError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = match openat(CWD, &path, flags, Mode::empty()) {
            Ok(lock) => lock,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return on("open", &path, Err(e.into())),
        };
        match take_lock(&lock) {
            Ok(true) => {}
            Ok(false) => {
                let pod = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Err(PodDirectoryError::InUse { pod, path });
            }
            Err(e) => return on("lock", &path, Err(e.into())),
        }
        // The former holder may have removed it before it unlocked it.
        let same = rustix::fs::fstat(&lock)
            .map_err(io::Error::from)
            .and_then(|held| Ok(fs::symlink_metadata(&path)?.ino() == held.st_ino));
        match same {
            Ok(true) => Ok(Some(Self { path, _lock: lock })),
            Ok(false) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => on("look at", &path, Err(e)),
        }
    }

    fn is_empty(&self) -> Result<bool, PodDirectoryError> {
        Ok(on("list", &self.path, fs::read_dir(&self.path))?.next().is_none())
    }

    /// Where it is.
    #[cfg(test)]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The guest's console.
    pub fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// The pod's state.
    pub fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// Root of the io process.
    pub fn sockets(&self) -> PathBuf {
        self.path.join("vsock")
    }

    /// Where the io process takes connections to the guest.
    pub fn vsock(&self) -> PathBuf {
        self.sockets().join(VSOCK)
    }

    /// Where the guest's agent connects to.
    pub fn agent_socket(&self) -> PathBuf {
        self.sockets().join(format!("{VSOCK}_{AGENT_PORT}"))
    }

    /// Where the io process takes requests.
    pub fn network(&self) -> PathBuf {
        network_in(&self.path)
    }

    /// The policies in force.
    pub fn policies(&self) -> PathBuf {
        policies_in(&self.path)
    }

    /// The resolv.conf of containers whose spec mounts none.
    pub fn resolv_conf(&self) -> PathBuf {
        self.path.join("resolv.conf")
    }

    /// The audit of pod `id`.
    pub fn audits(&self, kept: Option<&Path>, id: &PodId) -> [PathBuf; 2] {
        audits_in(&self.path, kept, id)
    }

    /// Which containers' hooks were run.
    pub fn hooks(&self) -> PathBuf {
        self.path.join("hooks")
    }

    /// Root of the fs process.
    pub fn share(&self) -> PathBuf {
        self.path.join("share")
    }

    /// Where mount points for the share are made.
    pub fn tree(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// A free path, which the binds of `container` pass through.
    pub fn stage(&self, container: &str) -> PathBuf {
        self.path.join(format!("stage.{container}"))
    }

    /// Creates its content: directories, the share's mount, the console's file.
    pub fn set_up(&self) -> Result<File, PodDirectoryError> {
        for dir in [self.sockets(), self.tree(), self.share(), self.hooks()] {
            on("create the directory", &dir, make_dir(&dir))?;
        }
        // The guest sees it; see `SEARCHABLE`.
        let searchable = fs::set_permissions(self.tree(), Permissions::from_mode(SEARCHABLE));
        on("open", &self.tree(), searchable)?;
        let share = self.share();
        on("mount", &share, mount_share(&self.tree(), &share))?;
        let console = self.console();
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        on("make", &console, options.open(&console))
    }

    /// Listens at `path`, in this directory.
    pub fn listen(&self, path: &Path) -> Result<UnixListener, PodDirectoryError> {
        let listener = on("listen at", path, UnixListener::bind(path))?;
        on("close to others", path, fs::set_permissions(path, fs::Permissions::from_mode(0o600)))?;
        Ok(listener)
    }

    /// Both ends of a new connection: the listener, whose first connection is
    /// the stream. No path leads to it.
    pub fn wire(&self, name: &str) -> Result<(UnixListener, UnixStream), PodDirectoryError> {
        let path = self.path.join(name);
        let listener = self.listen(&path)?;
        let stream = on("connect to", &path, UnixStream::connect(&path))?;
        on("remove", &path, fs::remove_file(&path))?;
        Ok((listener, stream))
    }

    /// Removes it with all that is mounted in it.
    pub fn remove(self) -> Result<(), PodDirectoryError> {
        // First: removing would reach through the mounts.
        unmount_below(&self.path)?;
        on("remove", &self.path, fs::remove_dir_all(&self.path))
    }
}

/// See [`PodDirectory::network`].
pub(crate) fn network_in(directory: &Path) -> PathBuf {
    directory.join(NETWORK)
}

/// See [`PodDirectory::policies`].
pub(crate) fn policies_in(directory: &Path) -> PathBuf {
    directory.join(POLICIES)
}

/// See [`PodDirectory::audits`]. In a common directory the names hold the pod.
pub(crate) fn audits_in(directory: &Path, kept: Option<&Path>, id: &PodId) -> [PathBuf; 2] {
    [0, 1].map(|half| match kept {
        Some(dir) => dir.join(format!("{}.{}.{half}.jsonl", id.namespace(), id.id())),
        None => directory.join(format!("audit.{half}.jsonl")),
    })
}

/// Locks the directory; false while another process holds the lock.
fn take_lock(lock: &OwnedFd) -> rustix::io::Result<bool> {
    let end = Instant::now() + STRAGGLERS;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if Instant::now() < end => thread::sleep(RETRY),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Creates the share: a separate mount that propagates to the fs process.
fn mount_share(tree: &Path, share: &Path) -> io::Result<()> {
    mount_bind(tree, share)?;
    mount_change(share, MountPropagationFlags::PRIVATE)?;
    mount_remount(share, MountFlags::BIND | MountFlags::RDONLY | GUARDED, "")?;
    mount_change(share, MountPropagationFlags::SHARED)?;
    Ok(())
}

/// Mode of directories of the share, which users of the guest search: root in a
/// container with a user namespace is one of them while libcontainer sets up its
/// mounts. On the host they are below a private directory.
pub(crate) const SEARCHABLE: u32 = 0o711;

fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn make_state_dir(path: &Path) -> Result<(), PodDirectoryError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    on("create the directory", path, made)
}

#[cfg(test)]
mod tests;
