use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use rustix::fs::statvfs;
use sandbox_agent_protocol::KERNEL_DIRS;

use super::{Context, HostBind, SpecError};
use crate::mounts::{MountError, Options};
use crate::pod_spec;

/// Shared memory means a memory of the kernel that the processes run on.
const SHM: &str = "/dev/shm";

/// Folders and files of the host come through the share; what a kernel makes
/// is the guest's own.
pub(super) fn transform(spec: &mut Spec, context: &mut Context) -> Result<(), SpecError> {
    let shares_memory = !has_ipc_of_its_own(spec);
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if shares_memory && mount.destination() == Path::new(SHM) {
            pods_memory(mount);
        } else if is_bind(mount) {
            bind(mount, context)?;
        }
    }
    Ok(())
}

/// The kernel mounts a sysfs for the owner of the network namespace alone, which
/// is the guest's root: a container with a user namespace gets a bind mount of
/// the guest's, as with runc.
pub(super) fn sysfs(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let mut own = namespaces.into_iter().flatten().filter(|namespace| namespace.path().is_none());
    if !own.any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
        return Ok(());
    }
    let mounts = spec.mounts_mut().iter_mut().flatten();
    for mount in mounts.filter(|mount| mount.typ().as_deref() == Some("sysfs")) {
        let mut options = mount.options().clone().unwrap_or_default();
        options.push("rbind".to_owned());
        mount.set_typ(Some("bind".to_owned()));
        mount.set_source(Some("/sys".into()));
        mount.set_options(Some(options));
    }
    Ok(())
}

/// The developer network's, where the container has none mounted.
pub(super) fn resolv_conf(spec: &mut Spec, context: &mut Context) -> Result<(), SpecError> {
    let Some(source) = context.resolv_conf else { return Ok(()) };
    if pod_spec::resolv_conf(spec).is_some() {
        return Ok(());
    }
    // Not writable: it is in the host's memory.
    let mut mount = Mount::default();
    mount
        .set_destination(pod_spec::RESOLV_CONF.into())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(["bind", "ro"].map(str::to_owned).to_vec()));
    bind(&mut mount, context)?;
    spec.mounts_mut().get_or_insert_default().push(mount);
    Ok(())
}

fn words(mount: &Mount) -> impl Iterator<Item = &str> {
    mount.options().iter().flatten().map(String::as_str)
}

fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind") || words(mount).any(|w| w == "bind" || w == "rbind")
}

fn bind(mount: &mut Mount, context: &mut Context) -> Result<(), SpecError> {
    let destination = mount.destination().display().to_string();
    let no_source = |path: &Path| MountError::NoSource {
        path: path.to_owned(),
        destination: destination.clone(),
    };
    let given = mount.source().clone().unwrap_or_default();
    let source = fs::canonicalize(&given).map_err(|_| no_source(&given))?;
    if mount.destination() == Path::new(SHM) {
        shared_memory(mount, &source);
        return Ok(());
    }
    let kind = fs::metadata(&source).map_err(|_| no_source(&given))?.file_type();
    let is_kernels =
        KERNEL_DIRS.iter().any(|dir| source.starts_with(dir)) && !source.starts_with(SHM);
    if is_kernels && (kind.is_dir() || kind.is_file() || kind.is_char_device()) {
        mount.set_source(Some(source));
        return Ok(());
    }
    if let Some(what) = special(kind) {
        return Err(MountError::Special { path: given, destination, what }.into());
    }
    let options = Options::parse(words(mount));
    let path = context.shared(&format!("mounts/{}", context.binds.len()));
    context.binds.push(HostBind { source, options });
    mount.set_source(Some(path));
    Ok(())
}

fn special(kind: fs::FileType) -> Option<&'static str> {
    let kinds = [
        (kind.is_socket(), "socket"),
        (kind.is_fifo(), "FIFO"),
        (kind.is_block_device(), "block device"),
        (kind.is_char_device(), "character device"),
    ];
    kinds.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
}

/// Whether a container shares no memory with others of its pod (runtime-spec,
/// "Namespaces": with a path it joins another's, without a namespace it has
/// that of all).
fn has_ipc_of_its_own(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let mut ipc =
        namespaces.into_iter().flatten().filter(|one| one.typ() == LinuxNamespaceType::Ipc);
    ipc.any(|namespace| namespace.path().is_none())
}

/// The guest's own, which all have who share it.
fn pods_memory(mount: &mut Mount) {
    let options = ["bind", "nosuid", "noexec", "nodev"].map(str::to_owned);
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(SHM.into()));
    mount.set_options(Some(options.to_vec()));
}

/// A file system in the guest's memory, of the same size.
fn shared_memory(mount: &mut Mount, source: &Path) {
    let bytes = statvfs(source).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
    let size = if bytes == 0 { 64 * 1024 * 1024 } else { bytes };
    let options = ["nosuid", "noexec", "nodev", "mode=1777"].map(str::to_owned);
    let options = options.into_iter().chain([format!("size={}k", size / 1024)]).collect();
    mount.set_typ(Some("tmpfs".to_owned()));
    mount.set_source(Some("shm".into()));
    mount.set_options(Some(options));
}
