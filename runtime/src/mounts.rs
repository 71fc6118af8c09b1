//! Mounts on the host.

mod assembly;
mod bind;
mod options;
mod rootfs;
mod table;

pub(crate) use assembly::{Provide, assemble, is_for_guest, is_writable};
pub(crate) use bind::{Bind, GUARDED, bind, make_point};
pub(crate) use options::Options;
pub(crate) use rootfs::mount_rootfs;
pub(crate) use table::{MountTable, unmount_below};

use std::io;
use std::path::PathBuf;

use crate::disks::DiskError;
use crate::failure::ErrorKind;

/// A mount that could not be made.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot mount {kind} {from} on {target}", from = from.display(), target = target.display())]
    Mount { kind: String, from: PathBuf, target: PathBuf, source: io::Error },
    /// The source of a bind mount is not there.
    #[error(
        "the source {path} of the mount on {destination}: no such file or directory",
        path = path.display()
    )]
    NoSource {
        path: PathBuf,
        /// Where in the container it was to be.
        destination: String,
    },
    /// The source of a bind mount means nothing in another kernel.
    #[error(
        "the source {path} of the mount on {destination} is a {what} of the host, \
         which a sandbox cannot use", path = path.display()
    )]
    Special {
        path: PathBuf,
        /// Where in the container it was to be.
        destination: String,
        what: &'static str,
    },
    /// A directory or file to mount on cannot be made.
    #[error("cannot make the mount point {path}", path = path.display())]
    Point { path: PathBuf, source: io::Error },
    /// A target below the rootfs climbs out of it.
    #[error("the mount target {0:?} leaves the root file system")]
    Climbs(String),
    #[error("cannot make the mount {kind} {from} in the guest: {why}")]
    Assembly {
        /// Its type, with the transforms before it.
        kind: String,
        from: String,
        why: String,
    },
    /// A writable layer that the guest cannot mark files in.
    #[error(
        "the writable layer {path} is on a file system without extended attributes of users, as \
         tmpfs was before Linux 6.6: have the snapshotter keep it elsewhere, or in an image \
         (default_size of erofs)", path = path.display()
    )]
    Upper { path: PathBuf },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot read /proc/thread-self/mountinfo")]
    Table(#[source] io::Error),
    #[error("cannot unmount {path}", path = path.display())]
    Unmount { path: PathBuf, source: io::Error },
}

impl MountError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSource { .. } => ErrorKind::NotFound,
            Self::Special { .. } | Self::Climbs(_) | Self::Assembly { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Upper { .. } => ErrorKind::FailedPrecondition,
            Self::Disk(error) => error.kind(),
            Self::Mount { source, .. } | Self::Point { source, .. }
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                ErrorKind::ResourceExhausted
            }
            _ => ErrorKind::Internal,
        }
    }
}
