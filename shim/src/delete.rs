//! `delete`: cleans up after a shim that is gone.
//!
//! containerd runs it when it has lost the shim, and containerd 1.6 and 1.7
//! after every normal end too: then there is nothing to do. It can run any
//! number of times, for each container of a pod at once.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use containerd_shim::Flags;
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{self, Message, MessageField};
use sandbox_runtime::{Config, ConfigError, IdError, PodId, chain};
use thiserror::Error;

use crate::bootstrap::SOCKET_DIR;
use crate::bundle::Bundle;
use crate::event::timestamp;
use crate::socket::ShimSocket;

/// Exit status of a container after its shim died: that of SIGKILL.
const KILLED: u32 = 137;

#[derive(Debug, Error)]
pub enum DeleteError {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot clean up after the shim of {pod}: {reason}")]
    Cleanup { pod: String, reason: String },
    #[error("cannot encode the answer to delete")]
    Encode(#[from] protobuf::Error),
    #[error("cannot write the answer to stdout")]
    Stdout(#[from] io::Error),
}

/// Cleans up, and prints a `DeleteResponse`.
pub fn run(flags: &Flags) -> Result<(), DeleteError> {
    let bundle = Bundle::at(bundle_directory(flags));
    let pod = bundle.pod_of(&flags.id).unwrap_or_else(|_| flags.id.clone());
    let pod = PodId::new(&flags.namespace, &pod)?;
    let socket = socket(&bundle, flags, &pod);
    // With a living shim only the container is gone, and after its containers
    // the shim itself cleans up.
    if !socket.is_served_by_live_shim(&bundle) {
        let config = config(&bundle)?;
        sandbox_runtime::cleanup(&config, &pod, &bundle_directory(flags)).map_err(|error| {
            DeleteError::Cleanup { pod: pod.to_string(), reason: chain(&error) }
        })?;
        socket.remove_stale();
    }
    let answer = DeleteResponse {
        exit_status: KILLED,
        exited_at: MessageField::some(timestamp(SystemTime::now())),
        ..Default::default()
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&answer.write_to_bytes()?)?;
    Ok(stdout.flush()?)
}

/// The bundle is the working directory where no flag names it.
fn bundle_directory(flags: &Flags) -> PathBuf {
    if flags.bundle.is_empty() { ".".into() } else { flags.bundle.clone().into() }
}

/// The socket of the pod's shim.
fn socket(bundle: &Bundle, flags: &Flags, pod: &PodId) -> ShimSocket {
    match bundle.address() {
        Some(address) => ShimSocket::at(&address),
        None => {
            ShimSocket::of_pod(Path::new(SOCKET_DIR), &flags.address, pod.namespace(), pod.id())
        }
    }
}

/// The configuration that the shim ran with.
fn config(bundle: &Bundle) -> Result<Config, ConfigError> {
    match bundle.config_path() {
        Some(path) => Config::from_file(&path),
        None => Config::load(),
    }
}
