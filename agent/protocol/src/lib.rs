//! What the shim and the agent in the guest agree on: the ttrpc service, the
//! vsock ports, the names of the guest's folders, and one version for it all.

#[allow(warnings, clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod generated {
    pub mod agent {
        include!(concat!(env!("OUT_DIR"), "/agent.rs"));
    }
    pub mod agent_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/agent_ttrpc.rs"));
    }
}

pub mod forward;
pub mod stream;

pub use generated::{agent, agent_ttrpc};

/// Version of everything in this crate. Host and guest refuse each other when
/// theirs differ; the guest image is built from the same tree as the shim.
pub const PROTOCOL_VERSION: u32 = 4;

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

/// Where the guest mounts the pod's share.
pub const SHARE_DIR: &str = "/run/sandbox/share";
