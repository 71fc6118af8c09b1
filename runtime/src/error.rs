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
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An id cannot be used.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The sandbox's processes could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The guest did not boot.
    #[error(transparent)]
    Boot(Arc<BootError>),
    /// The pod's directory cannot be made or removed.
    #[error(transparent)]
    Directory(#[from] PodDirectoryError),
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The container's spec cannot be used.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Its mounts cannot be made.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Its streams cannot be used.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// Its network cannot be set.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// One of its hooks failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The agent refused or failed.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// There is no such process.
    #[error("{0}: not found")]
    NotFound(ProcessRef),
    /// The id is taken.
    #[error("{0} already exists")]
    Exists(ProcessRef),
    /// The process has another status.
    #[error("{process} is {is}, it must be {must}")]
    WrongStatus {
        /// The process.
        process: ProcessRef,
        /// Its status.
        is: &'static str,
        /// The status that the call needs.
        must: &'static str,
    },
    /// Too many execs.
    #[error("container {container:?} has {most} execs that are not deleted, the limit")]
    TooManyProcesses {
        /// The container.
        container: String,
        /// The limit.
        most: usize,
    },
    /// Not the process of a spec.
    #[error("the spec of {process} is not the process of an OCI runtime spec")]
    NoProcessSpec {
        /// The process.
        process: ProcessRef,
        /// The first mistake in it.
        source: serde_json::Error,
    },
    /// The process has ended.
    #[error("{0} has already ended")]
    Finished(ProcessRef),
    /// The pod has ended.
    #[error("sandbox {pod} has ended: {reason}")]
    Ended {
        /// The pod.
        pod: String,
        /// The cause.
        reason: String,
    },
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
