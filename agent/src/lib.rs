//! The agent: process 1 of the guest. It mounts what a Linux userland expects,
//! reaps every orphan, and creates, starts, signals and ends OCI containers for
//! the shim, which calls it over vsock.
//!
//! A walk through it: [`boot`] connects to the host and hands the connection
//! to [`service`]; that looks containers up in [`table`]; [`create`] makes one
//! from its [`spec`] in a child process with libcontainer, and [`exec`] runs
//! further processes in it; [`streams`] carries the standard streams of a
//! [`process`]; [`reaper`] collects its exit.
//! [`network`] gives the guest its network, [`listeners`] reports what listens in
//! it, and [`forwards`] connects the host to what listens on loopback.

// A library for the agent's program, its tests and fuzz targets alone.
#![allow(missing_docs)]

pub mod boot;
pub mod cgroup;
pub mod container;
pub mod create;
mod disk;
pub mod error;
pub mod exec;
pub mod forwards;
pub mod id;
pub mod limits;
mod line;
pub mod listeners;
pub mod mounts;
pub mod network;
pub mod paths;
pub mod process;
pub mod readiness;
pub mod reaper;
pub mod rlimits;
mod rootfs;
pub mod service;
pub mod signal;
pub mod spec;
pub mod stage;
pub mod stats;
pub mod stdio;
pub mod streams;
pub mod table;
