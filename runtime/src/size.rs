//! How large a guest is to be.

use std::collections::HashMap;
use std::fs;
use std::str::FromStr;

use sandbox_vm_spec::{MAX_VCPUS, SpecError, VmSpec};

use crate::config::Config;
use crate::failure::ErrorKind;
use crate::pod_spec::PodSpec;

/// Annotation with the number of virtual CPUs.
const VCPUS: &str = "io.sandbox.vcpus";
/// Annotation with the memory in MiB.
const MEMORY: &str = "io.sandbox.memory_mib";
/// What the guest's kernel and agent need beside a container that uses all of
/// its limit.
const OVERHEAD_MIB: u64 = 96;
const MIB: u64 = 1024 * 1024;

/// A guest that cannot be.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    #[error("the annotation {name}={value:?} is not a whole number")]
    Annotation { name: &'static str, value: String },
    #[error("the sandbox's size cannot be: {0}")]
    Bounds(#[from] SpecError),
    #[error(
        "not enough memory: the sandbox needs {asked} MiB (annotation {MEMORY}, the container's \
         memory limit or [vm] memory_mib), this host has {has} MiB"
    )]
    HostMemory {
        asked: u32,
        /// All of the host's memory, in MiB.
        has: u64,
    },
}

impl SizeError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::HostMemory { .. } => ErrorKind::ResourceExhausted,
            _ => ErrorKind::InvalidArgument,
        }
    }
}

/// The machine for a pod: the size of its annotations, or else the larger of the
/// configuration's default and what the container's limits need.
pub(crate) fn vm_spec(config: &Config, pod: &PodSpec) -> Result<VmSpec, SizeError> {
    let vcpus = match annotation(&pod.annotations, VCPUS)? {
        Some(vcpus) => vcpus,
        None => config.vm.vcpus.max(vcpus_for(pod.cpus)),
    };
    let memory_mib = match annotation(&pod.annotations, MEMORY)? {
        Some(memory) => memory,
        None => config.vm.memory_mib.max(memory_for(pod.memory)),
    };
    let spec = VmSpec { vcpus, memory_mib, cmdline: String::new() };
    spec.validate()?;
    Ok(spec)
}

/// Refuses a guest with more memory than the host has at all. Less than that
/// is given as it is used.
pub(crate) fn check_host(spec: &VmSpec) -> Result<(), SizeError> {
    match fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total_mib) {
        Some(has) => check_total(spec, has),
        None => Ok(()),
    }
}

fn check_total(spec: &VmSpec, has: u64) -> Result<(), SizeError> {
    if u64::from(spec.memory_mib) > has {
        return Err(SizeError::HostMemory { asked: spec.memory_mib, has });
    }
    Ok(())
}

fn total_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024)
}

fn annotation<T: FromStr>(
    annotations: &HashMap<String, String>,
    name: &'static str,
) -> Result<Option<T>, SizeError> {
    let Some(value) = annotations.get(name) else { return Ok(None) };
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(SizeError::Annotation { name, value: value.chars().take(40).collect() }),
    }
}

fn vcpus_for(cpus: Option<f64>) -> u8 {
    let cpus = cpus.unwrap_or(0.0).ceil().clamp(0.0, MAX_VCPUS.into());
    cpus as u8
}

fn memory_for(limit: Option<u64>) -> u32 {
    let Some(limit) = limit else { return 0 };
    let mib = limit.div_ceil(MIB).saturating_add(OVERHEAD_MIB);
    u32::try_from(mib).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
