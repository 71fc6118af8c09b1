//! Limits of a container that is there: from `linux.resources` of an OCI spec to
//! files of its cgroup. Those that it was created with libcontainer sets.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use crate::cgroup::Cgroup;

/// Longest resources; those of a pod's containers are a few hundred bytes.
pub const MAX_RESOURCES: usize = 64 * 1024;

/// The kernel's period where none is given, in microseconds.
const PERIOD: u64 = 100_000;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("the resources are {0} bytes long; at most {MAX_RESOURCES} are taken")]
    TooLong(usize),
    #[error("the resources cannot be read: {0}")]
    Json(String),
    #[error(
        "a memory limit of {wanted} bytes is more than the {memory} of the guest, which does not \
         grow: create the container with that limit, or with the annotation \
         io.sandbox.memory_mib on its sandbox"
    )]
    Memory { wanted: u64, memory: u64 },
    #[error(
        "a quota of {quota} in {period} microseconds is more than the {vcpus} vCPUs of the guest, \
         which does not grow: create the container with that limit, or with the annotation \
         io.sandbox.vcpus on its sandbox"
    )]
    Cpu { quota: u64, period: u64, vcpus: u64 },
    /// In use already, and asked to be looked at first.
    #[error("the container uses {used} bytes, which is more than a memory limit of {wanted}")]
    InUse { wanted: u64, used: u64 },
    #[error("the resources' unified key {0:?} is not a file of a cgroup")]
    Unified(String),
}

/// What the guest has.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    pub memory: u64,
    pub vcpus: u64,
}

impl Guest {
    pub fn this() -> Self {
        let info = rustix::system::sysinfo();
        let vcpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        Self { memory: info.totalram.saturating_mul(info.mem_unit.into()), vcpus }
    }
}

/// Files of the cgroup with the value of each. Parts that mean something
/// on the host only (block devices, network priorities) is left out, as it is
/// when a container is created.
pub fn of(json: &[u8], cgroup: &Cgroup, guest: Guest) -> Result<Vec<(String, String)>, LimitError> {
    if json.len() > MAX_RESOURCES {
        return Err(LimitError::TooLong(json.len()));
    }
    let resources: LinuxResources =
        serde_json::from_slice(json).map_err(|error| LimitError::Json(error.to_string()))?;
    let used = || cgroup.read("memory.current").and_then(|text| text.trim().parse().ok());
    let mut files = Vec::new();
    if let Some(cpu) = resources.cpu() {
        add_cpu(cpu, guest, &mut files)?;
    }
    if let Some(memory) = resources.memory() {
        add_memory(memory, guest, used, &mut files)?;
    }
    if let Some(pids) = resources.pids() {
        files.push(("pids.max".to_owned(), max_or(pids_limit(pids))));
    }
    for (name, value) in resources.unified().iter().flatten() {
        if name.contains('/') || !name.contains('.') || name.starts_with("cgroup.") {
            return Err(LimitError::Unified(name.clone()));
        }
        files.push((name.clone(), value.clone()));
    }
    Ok(files)
}

fn add_cpu(
    cpu: &LinuxCpu,
    guest: Guest,
    files: &mut Vec<(String, String)>,
) -> Result<(), LimitError> {
    let mut add = |name: &str, value: String| files.push((name.to_owned(), value));
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        add("cpu.weight", weight(shares).to_string());
    }
    let period = cpu.period().filter(|period| *period != 0);
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        let period = period.unwrap_or(PERIOD);
        let quota = u64::try_from(quota).ok();
        if let Some(quota) = quota
            && quota > period.saturating_mul(guest.vcpus)
        {
            return Err(LimitError::Cpu { quota, period, vcpus: guest.vcpus });
        }
        add("cpu.max", format!("{} {period}", max_or(quota)));
    }
    if let Some(burst) = cpu.burst() {
        add("cpu.max.burst", burst.to_string());
    }
    if let Some(idle) = cpu.idle() {
        add("cpu.idle", idle.to_string());
    }
    for (name, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            add(name, list.clone());
        }
    }
    Ok(())
}

/// The weight that cgroup v2 has for the shares of v1, as runc counts it.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9_999 / 262_142
}

fn add_memory(
    memory: &LinuxMemory,
    guest: Guest,
    used: impl FnOnce() -> Option<u64>,
    files: &mut Vec<(String, String)>,
) -> Result<(), LimitError> {
    if let Some(reservation) = memory.reservation().filter(|bytes| *bytes != 0) {
        files.push(("memory.low".to_owned(), max_or(u64::try_from(reservation).ok())));
    }
    let Some(limit) = memory.limit().filter(|bytes| *bytes != 0) else { return Ok(()) };
    let limit = u64::try_from(limit).ok();
    if let Some(wanted) = limit {
        if wanted > guest.memory {
            return Err(LimitError::Memory { wanted, memory: guest.memory });
        }
        if memory.check_before_update() == Some(true)
            && let Some(used) = used().filter(|used| *used > wanted)
        {
            return Err(LimitError::InUse { wanted, used });
        }
    }
    files.push(("memory.max".to_owned(), max_or(limit)));
    Ok(())
}

fn pids_limit(pids: &LinuxPids) -> Option<u64> {
    u64::try_from(pids.limit()).ok().filter(|limit| *limit != 0)
}

/// Without a number there is no limit.
fn max_or(number: Option<u64>) -> String {
    number.map_or_else(|| "max".to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests;
