//! Translates containerd's OCI spec into the guest's. This is the only place
//! that does: the agent refuses a spec that still holds a part of the host's,
//! and adds what only the guest knows (its cgroup, the user's home directory).
//!
//! A chain of transformers, each of which knows one part of the spec. What the
//! host must do for a container comes out as data.
//!
//! Hooks whose programs are the host's run on the host (`hooks.rs`).

mod devices;
mod linux;
mod mounts;

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Hooks, Process, Spec};
use sandbox_agent_protocol::shared_dir;

use crate::failure::ErrorKind;
use crate::hooks::LIMIT;
use crate::mounts::{MountError, Options};

/// A spec that has no counterpart in a guest.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("the container's spec has no {0}")]
    Missing(&'static str),
    /// A root that is none or climbs.
    #[error(
        "the container's root path {0:?} is refused: it must be absolute or below the bundle, \
         with no \"..\" in it"
    )]
    Root(PathBuf),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(
        "device {path} ({major}:{minor}) of the host cannot be given to a sandbox; \
         remove it from the container", path = path.display()
    )]
    Device { path: PathBuf, major: i64, minor: i64 },
    #[error("the container's spec cannot be written as JSON")]
    Write(#[from] serde_json::Error),
}

impl SpecError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Mount(e) => e.kind(),
            Self::Missing(_) | Self::Root(_) | Self::Device { .. } => ErrorKind::InvalidArgument,
            Self::Write(_) => ErrorKind::Internal,
        }
    }
}

/// A folder or file of the host that the container sees, to be mounted on
/// `<share>/<container>/mounts/<index>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostBind {
    /// On the host.
    pub source: PathBuf,
    /// As in the spec.
    pub options: Options,
}

#[derive(Debug)]
pub(crate) struct GuestSpec {
    /// For the agent.
    pub json: Vec<u8>,
    /// The root that the spec named: of the host, absolute or below the bundle.
    pub root: PathBuf,
    /// For the host, by index.
    pub binds: Vec<HostBind>,
}

/// What a transformer knows beside the spec.
struct Context<'a> {
    container: &'a str,
    /// For a container that has no resolv.conf of its own.
    resolv_conf: Option<&'a Path>,
    root: PathBuf,
    binds: Vec<HostBind>,
}

impl Context<'_> {
    /// A path of the guest, in the container's part of the share.
    fn shared(&self, path: &str) -> PathBuf {
        shared_dir(self.container).join(path)
    }
}

type Transformer = fn(&mut Spec, &mut Context) -> Result<(), SpecError>;

const CHAIN: &[Transformer] = &[
    root,
    hooks,
    annotations,
    process,
    mounts::transform,
    mounts::resolv_conf,
    mounts::sysfs,
    devices::transform,
    linux::cgroup,
    linux::namespaces,
    linux::propagation,
    linux::resources,
    linux::labels,
];

/// Translates the spec of `container`, which gets `resolv_conf` if it brings
/// none.
pub(crate) fn translate(
    mut spec: Spec,
    container: &str,
    resolv_conf: Option<&Path>,
) -> Result<GuestSpec, SpecError> {
    let mut context = Context { container, resolv_conf, root: PathBuf::new(), binds: Vec::new() };
    for transform in CHAIN {
        transform(&mut spec, &mut context)?;
    }
    Ok(GuestSpec { json: serde_json::to_vec(&spec)?, root: context.root, binds: context.binds })
}

fn root(spec: &mut Spec, context: &mut Context) -> Result<(), SpecError> {
    let root = spec.root_mut().as_mut().ok_or(SpecError::Missing("root"))?;
    context.root.clone_from(root.path());
    if !is_root(&context.root) {
        return Err(SpecError::Root(context.root.clone()));
    }
    root.set_path(context.shared("rootfs"));
    Ok(())
}

fn is_root(path: &Path) -> bool {
    let has_nul = path.as_os_str().as_encoded_bytes().contains(&0);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    !path.as_os_str().is_empty() && !has_nul && !climbs
}

/// Those of the container's own programs run in the guest, for a bounded time.
fn hooks(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    let given = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().clone());
    let start = given.filter(|hooks| !hooks.is_empty()).map(|mut hooks| {
        for hook in &mut hooks {
            let seconds = hook.timeout().filter(|seconds| *seconds > 0);
            hook.set_timeout(seconds.or_else(|| LIMIT.as_secs().try_into().ok()));
        }
        let mut kept = Hooks::default();
        kept.set_start_container(Some(hooks));
        kept
    });
    spec.set_hooks(start);
    Ok(())
}

/// They are for runtimes and may hold what is no business of the guest.
fn annotations(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    spec.set_annotations(None);
    Ok(())
}

fn process(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    let process = spec.process_mut().as_mut().ok_or(SpecError::Missing("process"))?;
    without_labels(process);
    Ok(())
}

/// The guest has no AppArmor and no SELinux.
fn without_labels(process: &mut Process) {
    process.set_apparmor_profile(None).set_selinux_label(None);
}

/// Translates the process of an exec, which is JSON.
pub(crate) fn translate_process(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut process = serde_json::from_slice(json)?;
    without_labels(&mut process);
    serde_json::to_vec(&process)
}

#[cfg(test)]
mod tests;
