//! Sandboxes, from containerd's point of view downwards: pods, their
//! containers, the processes on the host that carry them, and what of it all
//! is on disk.
//!
//! A [`Pod`] is one microVM. [`Pod::create`] starts it and answers at once;
//! [`Pod::create_container`] prepares the host's side of a container while the
//! guest boots. Everything that the pod made is gone after [`Pod::shutdown`],
//! and after [`cleanup`] when nobody could call that.

#![forbid(unsafe_code)]

mod agent;
mod config;
mod container;
pub mod doctor;
mod error;
mod event;
mod id;
mod pod;

pub use agent::AgentError;
pub use config::{Config, ConfigError, EngineChoice, VmDefaults};
pub use container::{ContainerState, CreateContainer, RootfsMount, Status};
pub use error::{Error, ErrorKind, chain};
pub use event::{Events, Exit, PodEvent};
pub use id::{IdError, PodId};
pub use pod::{Pod, PodSpec, cleanup};
