//! The policies of a pod, in its directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sandbox_vm_spec::network::{MAX_REQUEST, PolicySource};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::file::write_atomically;
use crate::id::PodId;
use crate::pod_directory::{audits_in, policies_in};

/// Those in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// The node's.
    pub node: PolicySource,
    /// The pod's.
    pub pod: PolicySource,
}

impl Policies {
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        write_atomically(path, &serde_json::to_vec(self).map_err(io::Error::other)?)
    }

    fn read(path: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        // As long as what the process takes of them.
        File::open(path)?.take(MAX_REQUEST as u64).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }
}

/// The policies of a pod that runs.
pub fn pod_policies(config: &Config, id: &PodId) -> io::Result<Policies> {
    Policies::read(&policies_in(&config.state_dir.join(id.directory())))
}

/// The two files of a pod's audit: when one is full, the other is emptied and
/// written.
pub fn pod_audit(config: &Config, id: &PodId) -> [PathBuf; 2] {
    let directory = config.state_dir.join(id.directory());
    audits_in(&directory, config.network.audit_dir.as_deref(), id)
}
