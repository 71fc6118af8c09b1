//! A pod's disks: files and block devices of the host that the guest gets as
//! such, by way of the `io` process (`vmm/spec/src/disks.rs`).

use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, sendmsg, socketpair,
};
use sandbox_vm_spec::disks::{Disk, MAX_DISKS, MAX_PACKET, Reply, Request, SECTOR, SPAN};

use crate::failure::ErrorKind;

/// How long the process may be silent: a request of the guest that it is doing
/// may take a while.
const TIMEOUT: Duration = Duration::from_secs(25);

/// A file that cannot be a disk.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("cannot open {path}, which is to be a disk of the sandbox", path = path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "{path} cannot be a disk of the sandbox: it is neither a file nor a block device",
        path = path.display()
    )]
    Kind { path: PathBuf },
    #[error(
        "{path} cannot be a disk of the sandbox: it has {bytes} bytes, and a disk has {SECTOR} \
         to {SPAN}", path = path.display()
    )]
    Length { path: PathBuf, bytes: u64 },
    #[error(
        "{path} cannot be a disk of the sandbox: it has {MAX_DISKS} already, which is the most",
        path = path.display()
    )]
    TooMany { path: PathBuf },
    #[error("cannot make {path} a disk of the sandbox: {why}", path = path.display())]
    Refused { path: PathBuf, why: String },
}

impl DiskError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Kind { .. } | Self::Length { .. } => ErrorKind::InvalidArgument,
            Self::TooMany { .. } => ErrorKind::ResourceExhausted,
            Self::Open { .. } | Self::Refused { .. } => ErrorKind::Internal,
        }
    }
}

/// The way to a pod's block device. Clones lead to the same.
#[derive(Clone, Debug)]
pub(crate) struct Disks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Held for a request and its reply.
    requests: Mutex<OwnedFd>,
    numbers: Mutex<Numbers>,
}

/// Which numbers are taken.
#[derive(Debug, Default)]
struct Numbers {
    taken: Vec<u16>,
    last: u16,
}

impl Numbers {
    /// The next free one after the last, so that none comes again at once.
    fn take(&mut self) -> Option<u16> {
        let after = (1..=MAX_DISKS).map(|step| (self.last + step - 1) % MAX_DISKS + 1);
        let free = after.into_iter().find(|number| !self.taken.contains(number))?;
        self.taken.push(free);
        self.last = free;
        Some(free)
    }

    fn free(&mut self, number: u16) {
        self.taken.retain(|taken| *taken != number);
    }
}

/// A disk that the guest has. Dropped, it is taken away again.
#[derive(Debug)]
pub(crate) struct Attached {
    disks: Disks,
    /// What it is.
    pub disk: Disk,
}

impl Disks {
    /// The way, and the end of it that `io` inherits.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&ours, timeout, Some(TIMEOUT))?;
        }
        let inner = Inner { requests: Mutex::new(ours), numbers: Mutex::default() };
        Ok((Self { inner: Arc::new(inner) }, theirs))
    }

    /// Has the guest have the file or block device at `path`. Blocks.
    pub fn attach(&self, path: &Path, read_only: bool) -> Result<Attached, DiskError> {
        let (file, bytes) = open(path, read_only)?;
        let number = self.numbers(Numbers::take);
        let number = number.ok_or_else(|| DiskError::TooMany { path: path.to_owned() })?;
        let disk = Disk { number, bytes, read_only };
        match self.ask(&Request::Attach(disk.clone()), Some(&file)) {
            Ok(()) => Ok(Attached { disks: self.clone(), disk }),
            // The number stays taken: the io process may attach the disk yet.
            Err(why) => Err(DiskError::Refused { path: path.to_owned(), why }),
        }
    }

    fn numbers<T>(&self, with: impl FnOnce(&mut Numbers) -> T) -> T {
        with(&mut self.inner.numbers.lock())
    }

    fn ask(&self, request: &Request, file: Option<&File>) -> Result<(), String> {
        let requests = self.inner.requests.lock();
        match exchange(&requests, request, file) {
            Ok(Reply::Done) => Ok(()),
            Ok(Reply::Failed(why)) => Err(why),
            Err(error) => Err(format!("the io process of the sandbox does not answer: {error}")),
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let number = self.disk.number;
        // What has ended has no disks. What does not let go of one keeps its
        // number, too.
        match self.disks.ask(&Request::Detach(number), None) {
            Ok(()) => self.disks.numbers(|numbers| numbers.free(number)),
            Err(error) => tracing::debug!("disk {number} stays: {error}"),
        }
    }
}

fn exchange(requests: &OwnedFd, request: &Request, file: Option<&File>) -> io::Result<Reply> {
    let packet = serde_json::to_vec(request).map_err(io::Error::other)?;
    let fds = file.map(|file| [file.as_fd()]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(fds) = &fds {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(requests, &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut reply = vec![0; MAX_PACKET];
    let (len, _) = recv(requests, reply.as_mut_slice(), RecvFlags::empty())?;
    serde_json::from_slice(&reply[..len]).map_err(io::Error::other)
}

/// The file, and how long it is as a disk.
fn open(path: &Path, read_only: bool) -> Result<(File, u64), DiskError> {
    let failed = |source: io::Error| DiskError::Open { path: path.to_owned(), source };
    let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    // A FIFO would have it wait for a writer.
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = openat(CWD, path, flags, Mode::empty());
    let mut file = match opened {
        // A directory cannot be opened for writing.
        Err(rustix::io::Errno::ISDIR) => return Err(DiskError::Kind { path: path.to_owned() }),
        opened => File::from(opened.map_err(|errno| failed(errno.into()))?),
    };
    let kind = file.metadata().map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(DiskError::Kind { path: path.to_owned() });
    }
    let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let whole = bytes / SECTOR * SECTOR;
    if !(SECTOR..=SPAN).contains(&whole) {
        return Err(DiskError::Length { path: path.to_owned(), bytes });
    }
    Ok((file, whole))
}

#[cfg(test)]
mod tests;
