//! The errors of calls, and the codes that they get in ttrpc.

use sandbox_agent_protocol::PROTOCOL_VERSION;
use ttrpc::Code;

use crate::cgroup::CgroupError;
use crate::create::CreateError;
use crate::id::IdError;
use crate::limits::LimitError;
use crate::mounts::MountError;
use crate::network::NetworkError;
use crate::process::ProcessError;
use crate::rootfs::RootfsError;
use crate::spec::SpecError;

/// An answer other than success.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the handshake must come first")]
    NoHandshake,
    #[error("the handshake was done before")]
    SecondHandshake,
    /// Host and guest are of different builds.
    #[error(
        "the agent in the guest speaks protocol version {PROTOCOL_VERSION} and the shim {0}: \
         install the guest image that was built with the shim"
    )]
    Version(u32),
    /// The handshake asks for what cannot be.
    #[error("handshake: {0}")]
    Handshake(String),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Id(#[from] IdError),
    #[error("container {0} does not exist in the guest")]
    NoContainer(String),
    #[error("process {exec_id} of container {id} does not exist in the guest")]
    NoProcess { id: String, exec_id: String },
    #[error("process {exec_id} of container {id} exists already in the guest")]
    ProcessExists { id: String, exec_id: String },
    #[error("cannot delete process {exec_id} of container {id}: it is running")]
    ProcessRuns { id: String, exec_id: String },
    #[error("{most} processes were run in container {id} and not deleted, which is the most")]
    TooManyProcesses { id: String, most: usize },
    #[error("container {0} exists already in the guest")]
    Exists(String),
    #[error("container {0} is still being created")]
    Creating(String),
    #[error("the guest holds {0} containers, which is the most")]
    TooMany(usize),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Its root file system could not be taken apart.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error("cannot {action} container {id}: it is {phase}")]
    Phase { action: &'static str, id: String, phase: &'static str },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the process has no terminal")]
    NoTerminal,
    #[error("a terminal of {width} columns and {height} lines does not exist")]
    TerminalSize { width: u32, height: u32 },
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: std::io::Error },
}

impl CallError {
    /// Makes the `map_err` of an operation described by `what`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    fn code(&self) -> Code {
        match self {
            Self::NoHandshake | Self::SecondHandshake | Self::Version(_) | Self::Creating(_) => {
                Code::FAILED_PRECONDITION
            }
            Self::Phase { .. } | Self::NoTerminal | Self::ProcessRuns { .. } => {
                Code::FAILED_PRECONDITION
            }
            Self::Handshake(_) | Self::Id(_) | Self::Spec(_) => Code::INVALID_ARGUMENT,
            Self::Process(ProcessError::Signal(_)) | Self::TerminalSize { .. } => {
                Code::INVALID_ARGUMENT
            }
            Self::NoContainer(_) | Self::NoProcess { .. } => Code::NOT_FOUND,
            Self::Process(ProcessError::Finished) => Code::NOT_FOUND,
            Self::Process(ProcessError::Send { .. }) => Code::INTERNAL,
            Self::Exists(_) | Self::ProcessExists { .. } => Code::ALREADY_EXISTS,
            Self::TooMany(_) | Self::TooManyProcesses { .. } => Code::RESOURCE_EXHAUSTED,
            // What runc's shim answers when a container cannot be created.
            Self::Create(_) => Code::UNKNOWN,
            Self::Limit(
                LimitError::Memory { .. } | LimitError::Cpu { .. } | LimitError::InUse { .. },
            ) => Code::FAILED_PRECONDITION,
            Self::Limit(_) => Code::INVALID_ARGUMENT,
            Self::Cgroup(CgroupError::NotFrozen { .. }) => Code::DEADLINE_EXCEEDED,
            Self::Network(NetworkError::Plan(_)) => Code::INVALID_ARGUMENT,
            Self::Network(NetworkError::NoDevice(_) | NetworkError::Busy) => {
                Code::FAILED_PRECONDITION
            }
            Self::Network(NetworkError::Kernel { .. }) => Code::INTERNAL,
            Self::Mount(_) | Self::Cgroup(_) | Self::Rootfs(_) | Self::Io { .. } => Code::INTERNAL,
        }
    }
}

impl From<CallError> for ttrpc::Error {
    fn from(error: CallError) -> Self {
        ttrpc::Error::RpcStatus(ttrpc::get_status(error.code(), error.to_string()))
    }
}
