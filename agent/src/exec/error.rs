//! Why the child of an exec fails.

use std::io;
use std::path::PathBuf;

use oci_spec::runtime::PosixRlimitType;
use rustix::io::Errno;

use crate::create::child::with_sources;
use crate::create::executable::words;
use crate::create::workload::ProgramError;

/// A process that cannot be run in its container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The agent and this child are of one build, so this is a bug.
    #[error("invalid order of the agent: {0}")]
    Order(&'static str),
    /// The container's first process is gone, and with it the container.
    #[error("cannot run a process in a container that has stopped")]
    Stopped,
    #[error("cannot {step}: {source}")]
    Call { step: &'static str, source: io::Error },
    #[error("cannot {step}: {}", with_sources(source.as_ref()))]
    Library { step: &'static str, source: Box<dyn std::error::Error> },
    #[error("cannot set the limit {typ}: {}", with_sources(source.as_ref()))]
    Rlimit { typ: PosixRlimitType, source: Box<dyn std::error::Error> },
    #[error("cannot run on the CPUs {list:?}: {source}")]
    Cpus { list: String, source: Box<dyn std::error::Error> },
    /// The working directory, in the words of runc.
    #[error("chdir to cwd ({cwd:?}) set in config.json failed: {}", words(nix::errno::Errno::from_raw(errno.raw_os_error())))]
    Cwd { cwd: PathBuf, errno: Errno },
    /// A working directory that a link of the image led to.
    #[error("the working directory is outside of the container")]
    OutsideRoot,
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl ExecError {
    /// Makes the `map_err` of a system call.
    pub fn call<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Call { step, source: error.into() }
    }

    /// Makes the `map_err` of a function of libcontainer.
    pub fn library<E>(step: &'static str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + 'static,
    {
        move |error| Self::Library { step, source: error.into() }
    }
}
