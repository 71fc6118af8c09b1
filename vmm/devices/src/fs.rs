//! File system device (virtio 1.2 section 5.11): FUSE requests answered by
//! virtiofsd's passthrough file system, whose root is that of the process.

mod request;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sandbox_vm_spec::devices::DeviceKind;
use virtiofsd::passthrough::PassthroughFs;
use virtiofsd::passthrough::{CachePolicy, Config, InodeFileHandlesMode, NegotiationMode};
use virtiofsd::server::Server;

use request::Requests;

use crate::{Chain, Device, DeviceError, Memory, QueueIo, Signals};

/// Bytes of the tag in the config space.
const TAG: usize = 36;
/// Request queues: the second word of the config space. The high-priority
/// queue comes before them.
const REQUEST_QUEUES: u32 = 1;
/// How long the guest may use names and attributes without asking again. The
/// host changes the share only when containers come and go.
const VALID: Duration = Duration::from_secs(1);
/// Descriptors that the guest's files must leave to the process itself.
const OWN_FILES: u64 = 128;

/// `struct fuse_in_header` and `struct fuse_out_header` of linux/fuse.h.
const REQUEST_HEADER: usize = 40;
const REPLY_HEADER: u32 = 16;
/// Offset of `opcode` in the request.
const OPCODE: usize = 4;
/// FORGET, INTERRUPT, DESTROY, BATCH_FORGET: no reply is needed.
const WITHOUT_REPLY: [u32; 4] = [2, 36, 38, 42];

/// The file system cannot be served.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The tag does not fit the config space.
    #[error("the tag {0:?} of the share is not 1 to {TAG} bytes long")]
    Tag(String),
    /// The limit of open files is too low to serve anything.
    #[error("{0} open files are too few to serve a file system")]
    Files(u64),
    #[error("cannot serve the share")]
    Start(#[source] io::Error),
}

/// The file system device.
pub struct Fs {
    server: Server<PassthroughFs>,
    requests: Requests,
    config: [u8; TAG + 4],
}

impl Fs {
    /// Serves the root directory of the process under `tag`. `own_fds` is the
    /// directory `/proc/self/fd`, and `files` the most files that the process
    /// may have open.
    pub fn new(tag: &str, own_fds: OwnedFd, files: u64) -> Result<Self, FsError> {
        if tag.is_empty() || tag.len() > TAG {
            return Err(FsError::Tag(tag.to_owned()));
        }
        let mut config = [0; TAG + 4];
        config[..tag.len()].copy_from_slice(tag.as_bytes());
        config[TAG..].copy_from_slice(&REQUEST_QUEUES.to_le_bytes());
        let guest_fd_limit = files.checked_sub(OWN_FILES).ok_or(FsError::Files(files))?;
        let share = passthrough(File::from(own_fds), guest_fd_limit);
        let share = PassthroughFs::new(share).map_err(FsError::Start)?;
        let requests = Requests::new().map_err(FsError::Start)?;
        Ok(Self { server: Server::new(share), requests, config })
    }

    fn answer(&mut self, chain: &Chain, memory: &Memory) -> Result<u32, &'static str> {
        let (reader, writer) = self.requests.open(chain, memory)?;
        let answered = self.server.handle_message(reader, writer, None::<&mut ()>);
        let written = answered.map_err(|error| {
            tracing::warn!("fs: request without an answer: {error}");
            "a malformed FUSE request"
        })?;
        Ok(u32::try_from(written).unwrap_or(0))
    }
}

fn passthrough(own_fds: File, guest_fd_limit: u64) -> Config {
    Config {
        root_dir: "/".into(),
        proc_sfd_rawfd: Some(own_fds),
        entry_timeout: VALID,
        attr_timeout: VALID,
        // Close-to-open consistency: what the host writes is seen when a file
        // is opened.
        cache_policy: CachePolicy::Auto,
        writeback: false,
        readdirplus: true,
        xattr: true,
        posix_acl: NegotiationMode::Auto,
        // The guest need not ask for file capabilities before each write.
        killpriv_v2: true,
        // Two file systems of the host, such as two root file systems, may
        // have the same inode numbers.
        announce_submounts: true,
        // Handles need CAP_DAC_READ_SEARCH, with which a file server that was
        // taken over could open any file of the host's file systems.
        inode_file_handles: InodeFileHandlesMode::Never,
        guest_fd_limit,
        ..Config::default()
    }
}

impl Device for Fs {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Fs
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn kicked(&mut self, queue: usize, io: &mut [QueueIo]) -> Result<Signals, DeviceError> {
        if let Some(kicked) = io.get_mut(queue) {
            kicked.answer_all(|chain, memory| {
                let answered = self.answer(chain, memory);
                answered.map_err(|reason| DeviceError::Request { queue, reason })
            })?;
        }
        Signals::collect(io)
    }

    /// Forgets every file that the guest knew.
    fn reset(&mut self) {
        self.server.destroy();
    }
}

#[cfg(test)]
mod tests;
