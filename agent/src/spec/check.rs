//! What a spec must not hold.

use std::path::{Component, Path};

use libcontainer::rootfs::utils::is_bind;
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxSeccompAction, Mount, Process, Spec};
use sandbox_agent_protocol::{KERNEL_DIRS, SHARE_DIR};

use super::SpecError;

/// Why a part must be gone.
const OF_THE_HOST: &str = "it is the host's, which must leave it out";

pub fn all(spec: &Spec) -> Result<(), SpecError> {
    check_version(spec)?;
    process(spec.process().as_ref().ok_or(SpecError::Missing("process"))?)?;
    check_root(spec)?;
    spec.mounts().iter().flatten().try_for_each(check_mount)?;
    check_names(spec)?;
    check_hooks(spec)?;
    check_linux(spec.linux().as_ref().ok_or(SpecError::Missing("linux"))?)
}

fn check_version(spec: &Spec) -> Result<(), SpecError> {
    if spec.version().starts_with("1.") {
        return Ok(());
    }
    Err(SpecError::invalid("ociVersion", format!("is {:?}, not 1.x", spec.version())))
}

/// What holds for the first process and for those that come later.
pub fn process(process: &Process) -> Result<(), SpecError> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        return Err(SpecError::invalid("process.args", "must not be empty"));
    }
    no_nul("process.args", args)?;
    no_nul("process.env", process.env().as_deref().unwrap_or_default())?;
    if !process.cwd().is_absolute() {
        let why = format!("is {:?}, which is not an absolute path", process.cwd());
        return Err(SpecError::invalid("process.cwd", why));
    }
    no_nul("process.cwd", &[process.cwd().to_string_lossy().into_owned()])?;
    if process.user().umask().is_some_and(|umask| umask > 0o777) {
        return Err(SpecError::invalid("process.user.umask", "is above 0777"));
    }
    absent("process.apparmorProfile", process.apparmor_profile())?;
    absent("process.selinuxLabel", process.selinux_label())
}

fn check_root(spec: &Spec) -> Result<(), SpecError> {
    let root = spec.root().as_ref().ok_or(SpecError::Missing("root"))?;
    below_share("root.path", root.path())
}

fn check_mount(mount: &Mount) -> Result<(), SpecError> {
    let destination = mount.destination();
    let field = || format!("mount of {destination:?}");
    if !destination.is_absolute() {
        return Err(SpecError::invalid(field(), "is not on an absolute path"));
    }
    let strings = [
        Some(destination.to_string_lossy().into_owned()),
        mount.source().as_ref().map(|s| s.to_string_lossy().into_owned()),
        mount.typ().clone(),
    ];
    no_nul(&field(), &strings.into_iter().flatten().collect::<Vec<_>>())?;
    no_nul(&field(), mount.options().as_deref().unwrap_or_default())?;
    if !is_bind(mount) {
        return Ok(());
    }
    match mount.source() {
        Some(source) if is_kernels(source) => Ok(()),
        Some(source) => below_share(&field(), source),
        None => Err(SpecError::invalid(field(), "is a bind mount without a source")),
    }
}

/// Whether the file system is of the guest's kernel.
fn is_kernels(path: &Path) -> bool {
    let climbs = path.components().any(|c| c == Component::ParentDir);
    !climbs && KERNEL_DIRS.iter().any(|dir| path.starts_with(dir))
}

/// The agent's own files must not be shown to a container, so what it is shown
/// comes from the share.
fn below_share(field: &str, path: &Path) -> Result<(), SpecError> {
    let climbs = path.components().any(|c| c == Component::ParentDir);
    let strictly_below = path.strip_prefix(SHARE_DIR).is_ok_and(|rest| rest != Path::new(""));
    if strictly_below && !climbs && !has_nul(&path.to_string_lossy()) {
        return Ok(());
    }
    Err(SpecError::invalid(field, format!("uses {path:?}, which is not below {SHARE_DIR}")))
}

fn check_names(spec: &Spec) -> Result<(), SpecError> {
    /// `__NEW_UTS_LEN`: sethostname(2) takes no more.
    const MAX_NAME: usize = 64;
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        if name.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
            return Err(SpecError::invalid(field, format!("is longer than {MAX_NAME} bytes")));
        }
    }
    Ok(())
}

/// The host runs all but those whose programs are the container's.
fn check_hooks(spec: &Spec) -> Result<(), SpecError> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    for (name, hooks) in [
        ("hooks.prestart", prestart),
        ("hooks.createRuntime", hooks.create_runtime()),
        ("hooks.createContainer", hooks.create_container()),
        ("hooks.poststart", hooks.poststart()),
        ("hooks.poststop", hooks.poststop()),
    ] {
        absent(name, hooks)?;
    }
    Ok(())
}

fn check_linux(linux: &Linux) -> Result<(), SpecError> {
    check_namespaces(linux)?;
    check_seccomp(linux)?;
    absent("linux.cgroupsPath", linux.cgroups_path())?;
    absent("linux.mountLabel", linux.mount_label())?;
    absent("linux.intelRdt", linux.intel_rdt())?;
    absent("linux.netDevices", linux.net_devices())
}

fn absent<T>(field: &str, value: &Option<T>) -> Result<(), SpecError> {
    match value {
        None => Ok(()),
        Some(_) => Err(SpecError::unsupported(field, OF_THE_HOST)),
    }
}

fn check_namespaces(linux: &Linux) -> Result<(), SpecError> {
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for (at, namespace) in namespaces.iter().enumerate() {
        let typ = namespace.typ();
        if namespaces[..at].iter().any(|other| other.typ() == typ) {
            return Err(SpecError::invalid("linux.namespaces", format!("names {typ} twice")));
        }
        let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
        if let Some(path) = path {
            return Err(SpecError::unsupported(
                format!("the {typ} namespace {path:?}"),
                "namespaces of the host cannot be joined from a guest",
            ));
        }
        if typ == LinuxNamespaceType::Network {
            let why = "its containers use the guest's network";
            return Err(SpecError::unsupported("a network namespace", why));
        }
    }
    if namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Mount) {
        return Ok(());
    }
    Err(SpecError::invalid("linux.namespaces", "must have a mount namespace"))
}

fn check_seccomp(linux: &Linux) -> Result<(), SpecError> {
    let Some(seccomp) = linux.seccomp() else { return Ok(()) };
    let notifies = seccomp.default_action() == LinuxSeccompAction::ScmpActNotify
        || (seccomp.syscalls().iter().flatten())
            .any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
    if notifies || seccomp.listener_path().is_some() {
        let why = "the program that answers runs on the host, where the calls are not";
        return Err(SpecError::unsupported("SCMP_ACT_NOTIFY in linux.seccomp", why));
    }
    Ok(())
}

fn no_nul(field: &str, values: &[String]) -> Result<(), SpecError> {
    match values.iter().find(|value| has_nul(value)) {
        Some(value) => Err(SpecError::invalid(field, format!("holds a NUL byte: {value:?}"))),
        None => Ok(()),
    }
}

fn has_nul(value: &str) -> bool {
    value.contains('\0')
}
