use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::{Context, SpecError};

/// Where containers are in the guest's cgroup tree.
const CGROUP_PARENT: &str = "/sandbox";

/// The host's path places the whole sandbox; in the guest each container has
/// one of its own.
pub(super) fn cgroup(spec: &mut Spec, context: &mut Context) -> Result<(), SpecError> {
    let linux = spec.linux_mut().as_mut().ok_or(SpecError::Missing("linux section"))?;
    linux.set_cgroups_path(Some(Path::new(CGROUP_PARENT).join(context.container)));
    Ok(())
}

/// The network is the guest's. A namespace with a path is one of the host's
/// that the pod's containers share: they share the guest's instead.
pub(super) fn namespaces(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    if let Some(namespaces) = spec.linux_mut().as_mut().and_then(|l| l.namespaces_mut().as_mut()) {
        namespaces.retain(|namespace| {
            namespace.typ() != LinuxNamespaceType::Network && namespace.path().is_none()
        });
    }
    Ok(())
}

/// Limits hold in the guest's cgroup; what names CPUs, memory nodes, devices
/// or interfaces of the host means nothing there.
pub(super) fn resources(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    let Some(resources) = resources else { return Ok(()) };
    if let Some(cpu) = resources.cpu_mut() {
        cpu.set_cpus(None).set_mems(None);
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
