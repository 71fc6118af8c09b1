//! Makes a checked spec fit the guest and libcontainer.

use std::path::Path;

use oci_spec::runtime::{
    Hooks, Linux, LinuxNamespace, LinuxNamespaceType, LinuxResources, Mount, Process, Spec,
};

use super::{Features, HOME_OF_USER, Prepared, SpecError};
use crate::cgroup::Cgroup;
use crate::stdio::Wanted;

/// See the module.
pub fn adapt(
    id: &str,
    mut spec: Spec,
    stdio: Wanted,
    features: Features,
) -> Result<Prepared, SpecError> {
    let mut linux = spec.linux().clone().ok_or(SpecError::Missing("linux"))?;
    let mut process = spec.process().clone().ok_or(SpecError::Missing("process"))?;
    adapt_process(&mut process, stdio);
    let uid = guest_uid(&linux, process.user().uid());
    let console_size = console_size(&process);
    let guest_sysctls = take_guest_sysctls(&mut linux)?;
    adapt_linux(id, &mut linux, features);
    // The host runs its own.
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().clone());
    let hooks = hooks.map(|start| {
        let mut hooks = Hooks::default();
        hooks.set_start_container(Some(start));
        hooks
    });
    if spec.mounts().iter().flatten().any(is_cgroup_v1) {
        hide_other_cgroups(&mut linux);
    }
    if has_own(&linux, LinuxNamespaceType::User) {
        spec.mounts_mut().iter_mut().flatten().for_each(bind_sysfs);
    }
    spec.set_hooks(hooks).set_linux(Some(linux)).set_process(Some(process));
    Ok(Prepared { spec, guest_sysctls, uid, console_size })
}

/// The same of a spec that has been adapted, with another process.
pub fn adapt_exec(mut spec: Spec, stdio: Wanted) -> Result<Prepared, SpecError> {
    let linux = spec.linux().as_ref().ok_or(SpecError::Missing("linux"))?;
    let mut process = spec.process().clone().ok_or(SpecError::Missing("process"))?;
    adapt_process(&mut process, stdio);
    let uid = guest_uid(linux, process.user().uid());
    spec.set_process(Some(process));
    // Its terminal has its size before the program begins.
    Ok(Prepared { spec, guest_sysctls: Vec::new(), uid, console_size: None })
}

/// What a process does not ask for is as the container's `first` has it, as
/// with runc. Without this, one that says nothing of capabilities had all.
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

fn adapt_process(process: &mut Process, stdio: Wanted) {
    process.set_terminal(Some(stdio.terminal));
    // Labels of the host's security modules; the guest has none.
    process.set_apparmor_profile(None).set_selinux_label(None);
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
fn guest_uid(linux: &Linux, uid: u32) -> u32 {
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

/// All containers use the guest's network, so its settings are the guest's, as
/// are those of IPC for who shares it.
fn take_guest_sysctls(linux: &mut Linux) -> Result<Vec<(String, String)>, SpecError> {
    let all = linux.sysctl().clone().unwrap_or_default();
    let shares_ipc = !has_own(linux, LinuxNamespaceType::Ipc);
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

fn has_own(linux: &Linux, typ: LinuxNamespaceType) -> bool {
    linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == typ)
}

/// Who writes a spec for a host with cgroup v1 expects the container's own
/// cgroup there, without a namespace for it.
fn is_cgroup_v1(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("cgroup")
}

fn hide_other_cgroups(linux: &mut Linux) {
    if has_own(linux, LinuxNamespaceType::Cgroup) {
        return;
    }
    let mut own = LinuxNamespace::default();
    own.set_typ(LinuxNamespaceType::Cgroup);
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.push(own);
    linux.set_namespaces(Some(namespaces));
}

/// The kernel gives a sysfs to who owns the network namespace, which is the
/// guest's: root in a user namespace gets the guest's, as runc does it.
fn bind_sysfs(mount: &mut Mount) {
    if mount.typ().as_deref() == Some("sysfs") {
        let mut options = mount.options().clone().unwrap_or_default();
        options.push("rbind".to_owned());
        mount.set_typ(Some("bind".to_owned()));
        mount.set_source(Some("/sys".into()));
        mount.set_options(Some(options));
    }
}

fn adapt_linux(id: &str, linux: &mut Linux, features: Features) {
    let namespaces = linux.namespaces().clone().unwrap_or_default();
    let keep = |typ| typ != LinuxNamespaceType::Network;
    linux.set_namespaces(Some(namespaces.into_iter().filter(|n| keep(n.typ())).collect()));
    linux.set_mount_label(None);
    linux.set_cgroups_path(Some(Path::new("/").join(Cgroup::name(id))));
    // runc takes these with an r in front, too; libcontainer always recurses.
    let propagation = linux.rootfs_propagation().clone();
    let plain = propagation.filter(|p| !p.is_empty()).map(|p| match p.strip_prefix('r') {
        Some(plain) => plain.to_owned(),
        None => p,
    });
    linux.set_rootfs_propagation(plain);
    let resources = linux.resources().clone().map(|r| adapt_resources(r, features));
    linux.set_resources(resources);
}

fn adapt_resources(mut resources: LinuxResources, features: Features) -> LinuxResources {
    // A guest has no swap, and its kernel no file to limit it by.
    let memory = resources.memory().map(|mut memory| {
        memory.set_swap(None);
        memory
    });
    resources.set_memory(memory);
    // No huge pages are no more than a kernel without them gives.
    if let (false, Some(limits)) = (features.hugetlb, resources.hugepage_limits().clone()) {
        let kept: Vec<_> = limits.into_iter().filter(|limit| limit.limit() != 0).collect();
        resources.set_hugepage_limits((!kept.is_empty()).then_some(kept));
    }
    resources
}
