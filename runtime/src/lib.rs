//! Sandboxes, from containerd's point of view downwards: pods, their
//! containers, the processes on the host that carry them, and what of it all
//! is on disk.
//!
//! A [`Pod`] is one microVM. [`Pod::create`] starts it and answers at once;
//! [`Pod::create_container`] prepares the host's side of a container while the
//! guest boots. Everything that the pod made is gone after [`Pod::shutdown`],
//! and after [`cleanup`] where the shim died before.

#![forbid(unsafe_code)]

mod agent;
mod bundle;
mod cgroup;
mod cleanup;
mod config;
mod console;
mod container;
mod control;
mod disks;
pub mod doctor;
mod end;
mod engine;
mod error;
mod event;
mod failure;
mod file;
mod guest_spec;
mod hooks;
mod id;
pub mod kill_point;
mod log;
mod machine;
mod mounts;
pub mod network;
mod pod;
mod pod_directory;
mod pod_spec;
mod process;
mod size;
mod state;
mod stdio;

pub use agent::AgentError;
pub use bundle::BundleError;
pub use cgroup::CgroupError;
pub use cleanup::cleanup;
pub use config::{Config, ConfigError, EngineChoice, NetworkConfig, VmDefaults};
pub use container::{CreateContainer, ExecProcess, Pid, ProcessState, RootfsMount, Status, Stdio};
pub use engine::{Chosen, EngineError, Probe, choose, probe};
pub use error::Error;
pub use event::{Events, Exit, PodEvent};
pub use failure::{ErrorKind, chain};
pub use file::write_atomically;
pub use guest_spec::SpecError;
pub use hooks::HookError;
pub use id::{ExecId, IdError, PodId, ProcessRef};
pub use log::{LOG_VARIABLE, log_level};
pub use machine::{BootError, LaunchError};
pub use mounts::MountError;
pub use network::NetworkError;
pub use pod::Pod;
pub use pod_directory::PodDirectoryError;
pub use pod_spec::{NetworkNamespace, PodSpec};
pub use process::ProcessId;
pub use size::SizeError;
pub use state::{Description, Member, State, list};
pub use stdio::StdioError;
