//! containerd's bundle: a directory with an OCI spec.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::failure::ErrorKind;

/// Largest `config.json`: the spec goes to the agent in one message of ttrpc,
/// which ends at 4 MiB.
const MAX_LEN: u64 = 3 * 1024 * 1024;

/// A bundle that cannot be used.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} has {len} bytes, at most {MAX_LEN} are taken", path = path.display())]
    TooLarge { path: PathBuf, len: u64 },
    #[error("{path} is not an OCI runtime spec", path = path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
}

impl BundleError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Read { .. } => ErrorKind::Internal,
            _ => ErrorKind::InvalidArgument,
        }
    }
}

/// Reads the spec of a bundle.
pub(crate) fn read(bundle: &Path) -> Result<Spec, BundleError> {
    let path = bundle.join("config.json");
    let mut text = Vec::new();
    let read = || -> io::Result<u64> {
        let file = File::open(&path)?;
        let len = file.metadata()?.len();
        file.take(MAX_LEN).read_to_end(&mut text)?;
        Ok(len)
    };
    match { read }() {
        Err(source) => Err(BundleError::Read { path, source }),
        Ok(len) if len > MAX_LEN => Err(BundleError::TooLarge { path, len }),
        Ok(_) => {
            serde_json::from_slice(&text).map_err(|source| BundleError::Parse { path, source })
        }
    }
}

#[cfg(test)]
mod tests;
