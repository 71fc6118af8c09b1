//! Checks the OCI spec that the host translated for this guest
//! (`runtime/src/guest_spec.rs`), and keeps it parsed.
//!
//! The host may be wrong, and a container must not reach the agent's files in
//! any case, so a spec that still holds a part of the host's is refused. The
//! agent then adds what only the guest knows.

mod check;
mod cwd;
mod dev;
mod guest;

use std::path::PathBuf;

use oci_spec::runtime::{Linux, Process, Spec};

use crate::stdio::Wanted;

pub use cwd::make as make_cwd;
pub use dev::clear as clear_dev;
pub use guest::{console_size, guest_uid};

/// Longest spec. It must fit one ttrpc message (4 MiB) anyway; the bound
/// names the cause, and keeps the parsed form, which is larger, within the memory
/// of a small guest.
pub const MAX_SPEC: usize = 3 * 1024 * 1024;

/// Stands in the environment for the home directory that the container's own
/// `/etc/passwd` names; the creating child replaces it. libcontainer would
/// call getpwuid(3) in the container, which in a static program loads the
/// container's libraries into the agent.
pub const HOME_OF_USER: &str = "HOME=/nonexistent/sandbox-agent-asks-passwd";

/// A spec that cannot be run in this guest.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("the OCI spec is {0} bytes long; at most {MAX_SPEC} are taken")]
    TooLong(usize),
    #[error("the OCI spec cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A part that must be there is missing.
    #[error("the OCI spec has no {0}")]
    Missing(&'static str),
    /// A part has a value that cannot be.
    #[error("the OCI spec's {field} {why}")]
    Invalid { field: String, why: String },
    /// A part asks for what a guest does not offer.
    #[error("the OCI spec asks for {what}, which this guest cannot do: {why}")]
    Unsupported { what: String, why: &'static str },
}

impl SpecError {
    fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), why: why.into() }
    }

    fn unsupported(what: impl Into<String>, why: &'static str) -> Self {
        Self::Unsupported { what: what.into(), why }
    }
}

/// A spec that is ready to run.
#[derive(Debug)]
pub struct Prepared {
    pub spec: Spec,
    /// Settings of the guest's own network stack and of its shared IPC.
    pub guest_sysctls: Vec<(String, String)>,
    /// The user that the process is in the guest's eyes, and that owns its pipes.
    pub uid: u32,
    /// Columns and lines of the terminal at first.
    pub console_size: Option<(u16, u16)>,
    /// For the processes that follow.
    pub template: ExecTemplate,
}

/// The parts of a container's spec that each of its execs needs.
#[derive(Clone, Debug)]
pub struct ExecTemplate {
    /// The container's first process.
    pub first: Process,
    /// Its namespaces, seccomp profile, user mappings and personality.
    pub linux: Linux,
}

/// Parses, checks and completes the spec of container `id`.
pub fn prepare(id: &str, json: &[u8], stdio: Wanted) -> Result<Prepared, SpecError> {
    check_length(json)?;
    let spec: Spec = serde_json::from_slice(json)?;
    check::all(&spec)?;
    guest::complete(id, spec, stdio)
}

/// Parses, checks and completes the process of an exec.
pub fn prepare_exec(
    template: &ExecTemplate,
    json: &[u8],
    stdio: Wanted,
) -> Result<Process, SpecError> {
    check_length(json)?;
    let mut process: Process = serde_json::from_slice(json)?;
    check::process(&process)?;
    guest::inherit(&mut process, &template.first);
    guest::complete_process(&mut process, stdio);
    Ok(process)
}

fn check_length(json: &[u8]) -> Result<(), SpecError> {
    if json.len() > MAX_SPEC { Err(SpecError::TooLong(json.len())) } else { Ok(()) }
}

/// The path of the container's root in the guest.
pub fn rootfs(spec: &Spec) -> PathBuf {
    spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
