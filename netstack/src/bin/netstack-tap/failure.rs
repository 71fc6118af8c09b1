//! Why there is no NAT.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use sandbox_netstack::policy::ReadError;

/// Why this program ends.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file cannot be opened, made or written.
    #[error("cannot {what} {path}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] ReadError),
    /// The namespace needs root.
    #[error("cannot enter the network namespace (are you root?)")]
    Enter(#[source] Errno),
    /// The kernel takes no longer names.
    #[error("the interface's name {0:?} has more than 15 bytes: choose a shorter one with --name")]
    Name(String),
    /// iproute2 is not there.
    #[error("cannot run ip(8): install iproute2")]
    NoIp(#[source] io::Error),
    /// It does not do what it is to do.
    #[error("ip {command}: {said}")]
    Ip {
        /// Its arguments.
        command: String,
        /// Its error output.
        said: String,
    },
    /// A call to the kernel.
    #[error("cannot {0}")]
    Kernel(&'static str, #[source] Errno),
    /// The kernel's random numbers are not there yet.
    #[error("the kernel gave only {0} random bytes")]
    Random(usize),
    /// The thread that makes the device is gone.
    #[error("the thread that makes the tap died")]
    Died,
}

impl Failure {
    /// For `map_err`.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// The failure and what it comes from, in one line.
    pub fn told(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(&format!(": {error}"));
            cause = error.source();
        }
        line
    }
}
