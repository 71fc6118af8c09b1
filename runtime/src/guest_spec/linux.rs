use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use super::{Context, SpecError};

/// The host's path places the whole sandbox. The agent chooses the container's
/// cgroup in the guest.
pub(super) fn cgroup(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    let linux = spec.linux_mut().as_mut().ok_or(SpecError::Missing("linux section"))?;
    linux.set_cgroups_path(None);
    Ok(())
}

/// Every container uses the guest's network. A namespace with a path is one of
/// the host's that the pod's containers share: they share the guest's instead.
/// A spec for cgroup v1 expects the container's own cgroup without a namespace
/// for it; the guest has cgroup v2, which needs one.
pub(super) fn namespaces(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    let mut mounts = spec.mounts().iter().flatten();
    let cgroup_v1 = mounts.any(|mount| mount.typ().as_deref() == Some("cgroup"));
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let namespaces = linux.namespaces_mut().get_or_insert_default();
    namespaces.retain(|namespace| {
        let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
        namespace.typ() != LinuxNamespaceType::Network && path.is_none()
    });
    let has_cgroup = namespaces.iter().any(|one| one.typ() == LinuxNamespaceType::Cgroup);
    if cgroup_v1 && !has_cgroup {
        let mut cgroup = LinuxNamespace::default();
        cgroup.set_typ(LinuxNamespaceType::Cgroup).set_path(None);
        namespaces.push(cgroup);
    }
    Ok(())
}

/// runc accepts `rshared` and the like for `shared`; libcontainer knows the
/// short words only, and always recurses.
pub(super) fn propagation(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    if let Some(linux) = spec.linux_mut() {
        let given = linux.rootfs_propagation().clone().filter(|word| !word.is_empty());
        let short = given.map(|word| word.strip_prefix('r').unwrap_or(&word).to_owned());
        linux.set_rootfs_propagation(short);
    }
    Ok(())
}

/// Limits hold in the guest's cgroup. Names of the host's CPUs, memory nodes,
/// devices and interfaces mean nothing there, and a guest has no swap.
pub(super) fn resources(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    let Some(resources) = resources else { return Ok(()) };
    if let Some(cpu) = resources.cpu_mut() {
        cpu.set_cpus(None).set_mems(None);
    }
    if let Some(memory) = resources.memory_mut() {
        memory.set_swap(None);
    }
    resources.set_block_io(None).set_network(None).set_rdma(None).set_hugepage_limits(None);
    Ok(())
}

/// The guest has no SELinux, no resource director and no host interfaces.
pub(super) fn labels(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    if let Some(linux) = spec.linux_mut() {
        linux.set_mount_label(None).set_intel_rdt(None).set_net_devices(None);
        linux.set_memory_policy(None);
    }
    Ok(())
}
