//! The bundle that containerd creates for a container: what the shim itself reads
//! and writes in it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sandbox_runtime::{ProcessId, write_atomically};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Most bytes of a `config.json` that is read: it stops a file that is no spec
/// from filling memory. Specs of containerd are below 100 KiB; 128 KiB of
/// arguments and a thousand variables still fit.
const MAX_SPEC: u64 = 16 << 20;

/// Most bytes of the small files: a path or an address each.
const MAX_SMALL: u64 = 8 << 10;

/// The CRI writes this annotation. No pod author can set it.
const CRI_SANDBOX: &str = "io.kubernetes.cri.sandbox-id";

/// The group of a container for containerd's runc shim, where containers of a
/// group share a shim. Here they share a virtual machine, and where containerd
/// passes all annotations of a pod on, the pod's author sets this one.
const RUNC_GROUP: &str = "io.containerd.runc.v2.group";

/// What containerd makes in every bundle, and in those of containers.
const ROOTFS: &str = "rootfs";
const SPEC: &str = "config.json";
const ADDRESS: &str = "address";
const BOOTSTRAP: &str = "bootstrap.json";
const CONFIG: &str = "sandbox-config";
const PROCESS: &str = "shim.json";

#[derive(Debug, Error)]
pub enum BundleError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is not an OCI runtime spec")]
    Spec { path: PathBuf, source: serde_json::Error },
    #[error(
        "invalid annotation {RUNC_GROUP}={group:?}: {CRI_SANDBOX} puts the container in the \
         sandbox {sandbox:?}; remove the annotation from the pod"
    )]
    Group { group: String, sandbox: String },
}

/// The part of the spec that is read here.
#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

/// The part of containerd's `bootstrap.json` that is read here.
#[derive(Deserialize)]
struct Bootstrap {
    address: String,
}

#[derive(Clone, Debug)]
pub struct Bundle {
    dir: PathBuf,
}

impl Bundle {
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A sandbox's bundle may have no spec.
    pub fn has_spec(&self) -> bool {
        self.dir.join(SPEC).exists()
    }

    /// True once containerd has removed it. The bundle is the working directory,
    /// which outlives its path, so its content decides.
    pub fn is_gone(&self) -> bool {
        !self.has_spec() && !self.dir.join(ROOTFS).exists()
    }

    /// Id of the pod that the container `id` with this bundle belongs to: its
    /// own unless an annotation names another. A bundle without a spec belongs to a
    /// sandbox.
    pub fn pod_of(&self, id: &str) -> Result<String, BundleError> {
        if !self.has_spec() && !self.is_gone() {
            return Ok(id.to_owned());
        }
        let path = self.dir.join(SPEC);
        let text = read(&path, MAX_SPEC)?;
        let spec: Annotated =
            serde_json::from_str(&text).map_err(|source| BundleError::Spec { path, source })?;
        let annotations = spec.annotations.unwrap_or_default();
        match (annotations.get(CRI_SANDBOX), annotations.get(RUNC_GROUP)) {
            (Some(sandbox), Some(group)) if sandbox != group => {
                Err(BundleError::Group { group: group.clone(), sandbox: sandbox.clone() })
            }
            (sandbox, group) => Ok(sandbox.or(group).map_or(id, String::as_str).to_owned()),
        }
    }

    /// Address of the container's shim, as `start` kept it, or containerd 2
    /// for a container that joined a pod without `start`.
    pub fn address(&self) -> Option<String> {
        let kept = read(&self.dir.join(ADDRESS), MAX_SMALL).ok();
        kept.or_else(|| {
            let text = read(&self.dir.join(BOOTSTRAP), MAX_SMALL).ok()?;
            serde_json::from_str::<Bootstrap>(&text).ok().map(|bootstrap| bootstrap.address)
        })
    }

    /// Keeps the address of the shim: containerd 1.6 and 1.7 read it when they
    /// start anew.
    pub fn set_address(&self, address: &str) -> Result<(), BundleError> {
        self.write(ADDRESS, address)
    }

    /// The configuration file that the container's options name.
    pub fn config_path(&self) -> Option<PathBuf> {
        let path = read(&self.dir.join(CONFIG), MAX_SMALL).ok()?;
        Some(path.into())
    }

    /// Keeps the name of the configuration file for `delete`, which is not
    /// given the options.
    pub fn set_config_path(&self, path: &str) -> Result<(), BundleError> {
        self.write(CONFIG, path)
    }

    /// Whether the shim that kept its process here has ended, though threads of
    /// it may still hold what it had open.
    pub fn shim_has_ended(&self) -> bool {
        let Ok(kept) = read(&self.dir.join(PROCESS), MAX_SMALL) else { return false };
        serde_json::from_str::<ProcessId>(&kept).is_ok_and(|shim| !shim.is_alive())
    }

    /// Keeps which process the shim is.
    pub fn set_process(&self, shim: ProcessId) -> Result<(), BundleError> {
        self.write(PROCESS, &json!(shim).to_string())
    }

    /// The FIFO from which containerd takes the shim's log, open so that
    /// neither a missing nor a slow reader stops the shim: it is open for
    /// reading too, so that writes fail with EAGAIN at worst, and lines wait in
    /// it while containerd restarts.
    pub fn log(&self) -> Result<File, BundleError> {
        let path = self.dir.join("log");
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
            .open(&path)
            .map_err(|source| BundleError::Read { path, source })
    }

    fn write(&self, name: &str, text: &str) -> Result<(), BundleError> {
        let path = self.dir.join(name);
        write_atomically(&path, text.as_bytes())
            .map_err(|source| BundleError::Write { path, source })
    }
}

fn read(path: &Path, max: u64) -> Result<String, BundleError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(max).read_to_string(&mut text))
        .map_err(|source| BundleError::Read { path: path.to_owned(), source })?;
    Ok(text)
}
