//! Adds to a checked spec what only the guest knows, and changes what
//! libcontainer cannot take.

use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};

use super::{ExecTemplate, HOME_OF_USER, Prepared, SpecError};
use crate::cgroup::Cgroup;
use crate::stdio::Wanted;

pub fn complete(id: &str, mut spec: Spec, stdio: Wanted) -> Result<Prepared, SpecError> {
    let linux = spec.linux_mut().as_mut().ok_or(SpecError::Missing("linux"))?;
    let guest_sysctls = take_guest_sysctls(linux)?;
    linux.set_cgroups_path(Some(Path::new("/").join(Cgroup::name(id))));
    let mut linux = linux.clone();
    let process = spec.process_mut().as_mut().ok_or(SpecError::Missing("process"))?;
    complete_process(process, stdio);
    let (uid, console_size) = (guest_uid(&linux, process.user().uid()), console_size(process));
    let first = process.clone();
    // Kept as long as the container: without what no exec looks at.
    linux.set_resources(None).set_devices(None).set_sysctl(None);
    linux.set_masked_paths(None).set_readonly_paths(None);
    let template = ExecTemplate { first, linux };
    Ok(Prepared { spec, guest_sysctls, uid, console_size, template })
}

/// Fills the fields that an exec leaves out with those of the container's first
/// process, as runc does. Without this, a process without capabilities in its
/// spec would have all of them.
pub fn inherit(process: &mut Process, first: &Process) {
    if process.capabilities().is_none() {
        process.set_capabilities(first.capabilities().clone());
    }
    if process.rlimits().as_deref().unwrap_or_default().is_empty() {
        process.set_rlimits(first.rlimits().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(first.oom_score_adj());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*first.io_priority());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(first.scheduler().clone());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(first.exec_cpu_affinity().clone());
    }
}

pub fn complete_process(process: &mut Process, stdio: Wanted) {
    process.set_terminal(Some(stdio.terminal));
    // libcontainer takes any value for "set" when it orders seccomp and
    // capabilities, and so locks itself out on an explicit false.
    if process.no_new_privileges() == Some(false) {
        process.set_no_new_privileges(None);
    }
    let has_home = |env: &Vec<String>| {
        env.iter().rfind(|e| e.starts_with("HOME=")).is_some_and(|home| home.len() > "HOME=".len())
    };
    let mut env = process.env().clone().unwrap_or_default();
    if !has_home(&env) {
        env.push(HOME_OF_USER.to_owned());
    }
    process.set_env(Some(env));
}

/// Columns and lines of the process's terminal at first.
pub fn console_size(process: &Process) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    Some((u16::try_from(size.width()).ok()?, u16::try_from(size.height()).ok()?))
}

/// The number that the guest knows the container's user `uid` by.
pub fn guest_uid(linux: &Linux, uid: u32) -> u32 {
    let mapped = |container: u32, host: u32, size: u32| {
        let offset = uid.checked_sub(container).filter(|offset| *offset < size)?;
        host.checked_add(offset)
    };
    let mappings = linux.uid_mappings().iter().flatten();
    mappings
        .into_iter()
        .find_map(|m| mapped(m.container_id(), m.host_id(), m.size()))
        .unwrap_or(uid)
}

/// Every container uses the guest's network, so its settings are the guest's.
/// So are those of IPC for a container that shares it.
fn take_guest_sysctls(linux: &mut Linux) -> Result<Vec<(String, String)>, SpecError> {
    let all = linux.sysctl().clone().unwrap_or_default();
    let mut namespaces = linux.namespaces().iter().flatten();
    let shares_ipc = !namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::Ipc);
    let (of_guest, other): (Vec<_>, Vec<_>) = all.into_iter().partition(|(key, _)| {
        let key = key.replace('/', ".");
        key.starts_with("net.") || (shares_ipc && is_of_ipc(&key))
    });
    for (key, _) in &of_guest {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        if key.contains("..") || !key.chars().all(plain) {
            return Err(SpecError::invalid("linux.sysctl", format!("has a bad name: {key:?}")));
        }
    }
    linux.set_sysctl((!other.is_empty()).then(|| other.into_iter().collect()));
    Ok(of_guest)
}

/// Those that each IPC namespace has for itself: ipc_namespaces(7).
fn is_of_ipc(key: &str) -> bool {
    let many = ["fs.mqueue.", "kernel.msg", "kernel.shm"];
    key == "kernel.sem" || many.iter().any(|start| key.starts_with(start))
}
