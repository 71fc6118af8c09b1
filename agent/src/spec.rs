//! From the OCI spec that the host sends to the one that libcontainer runs.
//!
//! Checks come first and say by name what cannot be done here; then parts that
//! the guest does itself (network sysctls), that mean something only on the
//! host (AppArmor, hooks of the host, cgroup path), or that libcontainer takes
//! amiss are changed.

mod check;
mod cwd;
mod dev;
mod guest;

use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use crate::stdio::Wanted;

pub use cwd::make as make_cwd;
pub use dev::clear as clear_dev;
pub use guest::console_size;

/// Longest spec. It must fit one ttrpc message (4 MiB) anyway; the bound says
/// so by name, and keeps the parsed form, which is larger, within the memory
/// of a small guest.
pub const MAX_SPEC: usize = 3 * 1024 * 1024;

/// Stands in the environment for the home directory that the container's own
/// `/etc/passwd` names; the creating child replaces it. libcontainer would
/// call getpwuid(3) in the container, which in a static program loads the
/// container's own libraries into ours.
pub const HOME_OF_USER: &str = "HOME=/nonexistent/sandbox-agent-asks-passwd";

/// A spec that cannot be run in this guest.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Too long.
    #[error("the OCI spec is {0} bytes long; at most {MAX_SPEC} are taken")]
    TooLong(usize),
    /// Not a spec.
    #[error("the OCI spec cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A part that must be there is missing.
    #[error("the OCI spec has no {0}")]
    Missing(&'static str),
    /// A part has a value that cannot be.
    #[error("the OCI spec's {field} {why}")]
    Invalid {
        /// Which part.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// A part asks for what a guest does not offer.
    #[error("the OCI spec asks for {what}, which this guest cannot do: {why}")]
    Unsupported {
        /// Which part.
        what: String,
        /// Why not, and what to do.
        why: &'static str,
    },
}

impl SpecError {
    fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), why: why.into() }
    }

    fn unsupported(what: impl Into<String>, why: &'static str) -> Self {
        Self::Unsupported { what: what.into(), why }
    }
}

/// What the kernel of this guest has, as far as specs depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// The hugetlb cgroup controller.
    pub hugetlb: bool,
}

/// A spec that has been checked and made fit.
#[derive(Debug)]
pub struct Prepared {
    /// For libcontainer.
    pub spec: Spec,
    /// For what the guest has once: its network stack, and IPC that is shared.
    pub guest_sysctls: Vec<(String, String)>,
    /// Who the process is in the guest's eyes, and so owns its pipes.
    pub uid: u32,
    /// Columns and lines of the terminal at first.
    pub console_size: Option<(u16, u16)>,
}

/// Parses, checks and changes the spec of container `id`.
pub fn prepare(
    id: &str,
    json: &[u8],
    stdio: Wanted,
    features: Features,
) -> Result<Prepared, SpecError> {
    if json.len() > MAX_SPEC {
        return Err(SpecError::TooLong(json.len()));
    }
    let spec: Spec = serde_json::from_slice(json)?;
    check::all(&spec)?;
    guest::adapt(id, spec, stdio, features)
}

/// Checks the process that is to run in the container of `spec`, which has
/// been prepared, and puts it in the place of that one's own.
pub fn prepare_exec(mut spec: Spec, json: &[u8], stdio: Wanted) -> Result<Prepared, SpecError> {
    if json.len() > MAX_SPEC {
        return Err(SpecError::TooLong(json.len()));
    }
    let mut process: Process = serde_json::from_slice(json)?;
    check::process(&process)?;
    if let Some(first) = spec.process() {
        guest::inherit(&mut process, first);
    }
    spec.set_process(Some(process));
    guest::adapt_exec(spec, stdio)
}

/// The path of the container's root in the guest.
pub fn rootfs(spec: &Spec) -> PathBuf {
    spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
