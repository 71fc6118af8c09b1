//! What clients put into an `Any`: containerd's `typeurl` has Go types of the
//! OCI spec as JSON, and messages under their bare names.

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::oci::ProcessDetails;
use sandbox_runtime::ExecId;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Names of the OCI spec's process, by the version of the Go module.
const PROCESS: [&str; 2] = [
    "types.containerd.io/opencontainers/runtime-spec/1/Process",
    "types.containerd.io/opencontainers/runtime-spec/v1/Process",
];

/// The same of its resources.
const RESOURCES: [&str; 2] = [
    "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
    "types.containerd.io/opencontainers/runtime-spec/v1/LinuxResources",
];

/// Longest process, and longest resources: what the agent in the guest takes.
const MAX_PROCESS: usize = 3 * 1024 * 1024;
const MAX_RESOURCES: usize = 64 * 1024;

/// A payload that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PayloadError {
    #[error("the request has no {wanted}")]
    Missing { wanted: &'static str },
    #[error("the payload is of type {found:?}, it must be {wanted}")]
    Unknown { found: String, wanted: &'static str },
    #[error("the {wanted} is {length} bytes long; at most {most} are taken")]
    TooLong { wanted: &'static str, length: usize, most: usize },
}

/// The JSON of a process.
pub fn process(any: Option<Any>) -> Result<Vec<u8>, PayloadError> {
    json(any, PROCESS, MAX_PROCESS)
}

/// The JSON of resources.
pub fn resources(any: Option<Any>) -> Result<Vec<u8>, PayloadError> {
    json(any, RESOURCES, MAX_RESOURCES)
}

fn json(any: Option<Any>, names: [&'static str; 2], most: usize) -> Result<Vec<u8>, PayloadError> {
    let [wanted, _] = names;
    let any = any.ok_or(PayloadError::Missing { wanted })?;
    if !names.contains(&any.type_url.as_str()) {
        let found = any.type_url.chars().take(256).collect();
        return Err(PayloadError::Unknown { found, wanted });
    }
    let length = any.value.len();
    if length > most { Err(PayloadError::TooLong { wanted, length, most }) } else { Ok(any.value) }
}

/// The details of an exec's pid; none for other processes.
pub fn details(exec: Option<ExecId>) -> Option<Any> {
    let exec_id = exec?.as_str().to_owned();
    let details = ProcessDetails { exec_id, ..Default::default() };
    Some(Any {
        type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
        value: details.write_to_bytes().unwrap_or_default(),
        ..Default::default()
    })
}
