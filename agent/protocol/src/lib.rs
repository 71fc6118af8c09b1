//! What the shim and the agent in the guest agree on: the ttrpc service, the
//! vsock ports, the names of the guest's directories, and one version for it all.

#[allow(warnings, clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod generated {
    pub mod agent {
        include!(concat!(env!("OUT_DIR"), "/agent.rs"));
    }
    pub mod agent_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/agent_ttrpc.rs"));
    }
}

use std::path::{Path, PathBuf};

pub mod forward;
pub mod stream;

pub use generated::{agent, agent_ttrpc};

/// Version of everything in this crate. Host and guest refuse each other when
/// theirs differ; the guest image is built from the same tree as the shim.
pub const PROTOCOL_VERSION: u32 = 6;

/// Host port that the agent connects to once it can serve. The connection then
/// carries ttrpc, with the agent as the server. The only port that the host
/// listens on for the guest.
pub const AGENT_PORT: u32 = 1024;

/// Guest port of the agent for the streams of a process. See [`stream`].
pub const STDIO_PORT: u32 = 1025;

/// Guest port of the agent for connections to the guest's loopback. See
/// [`forward`].
pub const FORWARD_PORT: u32 = 1026;

/// vsock context id of the host (`VMADDR_CID_HOST`).
pub const HOST_CID: u32 = 2;

/// vsock context id of every guest; it is private to its virtual machine.
pub const GUEST_CID: u32 = 3;

/// Tag of the pod's virtio-fs share.
pub const SHARE_TAG: &str = "share";

/// Directories in which a guest has file systems of its own kernel. A bind mount
/// from one of them shows the guest's.
pub const KERNEL_DIRS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where the guest mounts the pod's share.
pub const SHARE_DIR: &str = "/run/sandbox/share";

/// Directories of the paths of disks, and of the mounts that a root file system
/// is assembled from.
const DISK_DIR: &str = "/run/sandbox/d";
const ROOTFS_DIR: &str = "/run/sandbox/r";

/// Where the guest has disk `number`.
pub fn disk_path(number: u32) -> PathBuf {
    Path::new(DISK_DIR).join(number.to_string())
}

/// Where the mounts of a container's root file system are, but for the last.
pub fn rootfs_dir(container: &str) -> PathBuf {
    Path::new(ROOTFS_DIR).join(container)
}

/// Where mount `index` of them is.
pub fn rootfs_point(container: &str, index: usize) -> PathBuf {
    rootfs_dir(container).join(index.to_string())
}

/// Where the guest sees a container's part of the share.
pub fn shared_dir(container: &str) -> PathBuf {
    Path::new(SHARE_DIR).join(container)
}
