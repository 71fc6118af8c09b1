//! Another policy for a pod that runs.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sandbox_vm_spec::network::{Reply, Request};

use super::store::Policies;
use super::{Client, ClientError, PolicyError, policy};
use crate::config::Config;
use crate::id::PodId;
use crate::pod_directory::{network_in, policies_in};

/// A policy that was not put in force: the old one holds on.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot use {path}: is the sandbox running?", path = path.display())]
    PodDirectory { path: PathBuf, source: io::Error },
}

/// What putting it in force did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// Number of the policies now in force.
    pub generation: u64,
    /// Flows that were ended.
    pub ended: u64,
}

/// Puts a policy in force for a pod, given as its annotation would have it: a
/// name, or the text itself; none takes the pod's away. The node's is read
/// anew. With `recheck` open flows that it does not allow end.
pub fn set_policy(
    config: &Config,
    id: &PodId,
    asked: Option<&str>,
    recheck: bool,
) -> Result<Set, SetError> {
    let network = &config.network;
    let policies =
        Policies { node: policy::of_node(network)?, pod: policy::of_pod(network, asked)? };
    put(&config.state_dir.join(id.directory()), policies, recheck)
}

fn put(directory: &Path, policies: Policies, recheck: bool) -> Result<Set, SetError> {
    let path = policies_in(directory);
    let at = |source| SetError::PodDirectory { path: path.clone(), source };
    // One after the other, so that what is written is what is in force.
    let lock = path.with_extension("lock");
    let mut options = OpenOptions::new();
    let lock =
        options.write(true).create(true).truncate(false).mode(0o600).open(lock).map_err(at)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|e| at(e.into()))?;
    let mut client = Client::connect(&network_in(directory))?;
    let (node, pod) = (policies.node.clone(), policies.pod.clone());
    match client.ask(&Request::SetPolicy { node, pod, recheck })? {
        Reply::PolicySet { generation, ended } => {
            policies.write(&path).map_err(at)?;
            Ok(Set { generation, ended })
        }
        _ => Err(ClientError::Odd.into()),
    }
}

#[cfg(test)]
mod tests;
