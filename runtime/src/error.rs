use std::sync::Arc;

use crate::agent::AgentError;
use crate::bundle::BundleError;
use crate::config::ConfigError;
use crate::failure::{ErrorKind, chain};
use crate::guest_spec::SpecError;
use crate::hooks::HookError;
use crate::id::{IdError, ProcessRef};
use crate::machine::{BootError, LaunchError};
use crate::mounts::MountError;
use crate::network::NetworkError;
use crate::pod_directory::PodDirectoryError;
use crate::stdio::StdioError;

/// A failure of this crate.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Id(#[from] IdError),
    /// The sandbox's processes could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Boot(Arc<BootError>),
    /// The pod's directory cannot be made or removed.
    #[error(transparent)]
    Directory(#[from] PodDirectoryError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Stdio(#[from] StdioError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("{0}: not found")]
    NotFound(ProcessRef),
    #[error("{0} already exists")]
    Exists(ProcessRef),
    #[error("{process} is {is}, it must be {must}")]
    WrongStatus { process: ProcessRef, is: &'static str, must: &'static str },
    #[error("container {container:?} has {most} execs that are not deleted, the limit")]
    TooManyProcesses { container: String, most: usize },
    #[error("the spec of {process} is not the process of an OCI runtime spec")]
    NoProcessSpec { process: ProcessRef, source: serde_json::Error },
    #[error("{0} has already ended")]
    Finished(ProcessRef),
    #[error("sandbox {pod} has ended: {reason}")]
    Ended { pod: String, reason: String },
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(e) => e.kind(),
            Self::Id(_) => ErrorKind::InvalidArgument,
            Self::Launch(e) => e.kind(),
            Self::Boot(e) => e.kind(),
            Self::Directory(e) => e.kind(),
            Self::Bundle(e) => e.kind(),
            Self::Spec(e) => e.kind(),
            Self::Mount(e) => e.kind(),
            Self::Stdio(e) => e.kind(),
            Self::Network(e) => e.kind(),
            Self::Hook(_) => ErrorKind::Internal,
            Self::Agent(e) => e.kind(),
            Self::NotFound(_) | Self::Finished(_) => ErrorKind::NotFound,
            Self::Exists(_) => ErrorKind::AlreadyExists,
            Self::TooManyProcesses { .. } => ErrorKind::ResourceExhausted,
            Self::NoProcessSpec { .. } => ErrorKind::InvalidArgument,
            Self::WrongStatus { .. } => ErrorKind::FailedPrecondition,
            Self::Ended { .. } => ErrorKind::Unavailable,
        }
    }

    /// The message with those of all its causes, as a user is to read it.
    pub fn report(&self) -> String {
        chain(self)
    }
}
