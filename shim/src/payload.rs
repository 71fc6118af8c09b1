//! What clients put into an `Any`: containerd's `typeurl` has Go types of the
//! OCI spec as JSON, and messages under their bare names.

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::oci::ProcessDetails;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Names of the OCI spec's process, by the version of the Go module.
const PROCESS: [&str; 2] = [
    "types.containerd.io/opencontainers/runtime-spec/1/Process",
    "types.containerd.io/opencontainers/runtime-spec/v1/Process",
];

/// Longest process: what the agent in the guest takes.
const MAX_PROCESS: usize = 3 * 1024 * 1024;

/// A payload that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PayloadError {
    /// no payload
    #[error("the request has no spec")]
    Missing,
    /// a payload of an unknown type
    #[error("the spec is of type {0:?}, it must be {process}", process = PROCESS[0])]
    Unknown(String),
    /// too long a payload
    #[error("the spec is {0} bytes long; at most {MAX_PROCESS} are taken")]
    TooLong(usize),
}

/// The JSON of a process.
pub fn process(any: Option<&Any>) -> Result<Vec<u8>, PayloadError> {
    let any = any.ok_or(PayloadError::Missing)?;
    if !PROCESS.contains(&any.type_url.as_str()) {
        return Err(PayloadError::Unknown(any.type_url.chars().take(256).collect()));
    }
    if any.value.len() > MAX_PROCESS {
        return Err(PayloadError::TooLong(any.value.len()));
    }
    Ok(any.value.clone())
}

/// What tells which exec a pid belongs to; none for others.
pub fn details(exec: String) -> Option<Any> {
    if exec.is_empty() {
        return None;
    }
    let details = ProcessDetails { exec_id: exec, ..Default::default() };
    Some(Any {
        type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
        value: details.write_to_bytes().unwrap_or_default(),
        ..Default::default()
    })
}
