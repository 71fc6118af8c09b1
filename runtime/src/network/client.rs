//! A client of a pod's `io` process (`net.sock` in the pod's directory).

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox_vm_spec::network::{MAX_REPLY, Reply, Request, receive, send};

use crate::config::Config;
use crate::id::PodId;
use crate::pod_directory::network_in;

/// How long the process may be silent: it answers at once, unless its guest
/// has taken it over.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request that was not answered as it should be.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {path}: is the sandbox running?", path = path.display())]
    Connect { path: PathBuf, source: io::Error },
    /// The question did not come through, or no answer came.
    #[error("the network process of the sandbox does not answer on {path}", path = path.display())]
    Silent { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Failed(String),
    #[error("the network process of the sandbox answers with something else than was asked")]
    Odd,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
}

impl Client {
    /// Connects.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Self::with_timeout(path, TIMEOUT)
    }

    /// Connects to the process of a pod.
    pub fn of_pod(config: &Config, id: &PodId) -> Result<Self, ClientError> {
        Self::connect(&network_in(&config.state_dir.join(id.directory())))
    }

    /// Connects to one that may take this long to answer.
    pub(crate) fn with_timeout(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let connected = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        });
        let failed = |source| ClientError::Connect { path: path.to_owned(), source };
        Ok(Self { stream: connected.map_err(failed)?, path: path.to_owned() })
    }

    /// Asks, and reads the answer. [`Reply::Failed`] is an error.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        send(&mut self.stream, request).map_err(|source| self.silent(source))?;
        self.answer()
    }

    /// From now on answers may take as long as they want.
    pub fn wait_for_ever(&mut self) -> Result<(), ClientError> {
        self.stream.set_read_timeout(None).map_err(|source| self.silent(source))
    }

    /// Reads a further answer, to [`Request::Capture`].
    pub fn answer(&mut self) -> Result<Reply, ClientError> {
        match receive(&mut self.stream, MAX_REPLY) {
            Ok(Some(Reply::Failed { error })) => Err(ClientError::Failed(error)),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(self.silent(io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(self.silent(source)),
        }
    }

    /// Asks for something that has no other answer than that it is done.
    pub fn tell(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            _ => Err(ClientError::Odd),
        }
    }

    fn silent(&self, source: io::Error) -> ClientError {
        ClientError::Silent { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests;
