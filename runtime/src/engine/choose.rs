//! Which engine it is to be.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

use super::{Engine, Kvm, Probe, Qemu, probe};
use crate::config::{Config, EngineChoice};

/// Package of Debian with QEMU for this architecture.
const QEMU_PACKAGE: &str = "qemu-system-x86";
/// Where QEMU is looked for when containerd gave the shim no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// See [`Chosen::allowance`]. Measured: two guests of sixteen at once on two
/// CPUs took up to 30 s and more, one of one takes 1 to 4.
const EACH_VCPU: Duration = Duration::from_secs(3);

/// There is no engine.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// `engine = "kvm"`, and KVM cannot be used.
    #[error(
        "the configuration asks for the kvm engine, which cannot be used here: {0}; \
         set engine = \"auto\" or \"qemu\" to run without KVM"
    )]
    Kvm(String),
    /// `engine = "qemu"`, and there is no QEMU.
    #[error("the configuration asks for the qemu engine, which cannot be used here: {0}")]
    Qemu(String),
    /// `engine = "auto"`, and neither can be used.
    #[error("no engine can run a sandbox here: kvm: {kvm}; qemu: {qemu}")]
    None { kvm: String, qemu: String },
}

/// An engine and why it was chosen.
pub struct Chosen {
    pub(crate) engine: Box<dyn Engine>,
    /// Why, in words.
    pub reason: String,
}

impl Chosen {
    /// `kvm` or `qemu`.
    pub fn name(&self) -> &'static str {
        self.engine.name()
    }

    /// How much longer the boot of a guest with this many vCPUs may take than
    /// that of a guest with one: emulated, they come up one after the other,
    /// while those that are up keep the host's few CPUs busy.
    pub(crate) fn allowance(&self, vcpus: u32) -> Duration {
        match self.name() {
            "qemu" => EACH_VCPU * vcpus.saturating_sub(1),
            _ => Duration::ZERO,
        }
    }
}

/// Picks the engine that the configuration asks for. Blocks as [`probe`] does.
pub fn choose(config: &Config) -> Result<Chosen, EngineError> {
    match config.engine {
        EngineChoice::Kvm => {
            usable(probe(config)).map(|why| kvm(config, why)).map_err(EngineError::Kvm)
        }
        EngineChoice::Qemu => {
            let why = "the configuration asks for it".to_owned();
            find_qemu(config).map(|path| qemu(config, path, why)).map_err(EngineError::Qemu)
        }
        EngineChoice::Auto => match usable(probe(config)) {
            Ok(why) => Ok(kvm(config, why)),
            Err(kvm) => match find_qemu(config) {
                Ok(path) => Ok(qemu(config, path, format!("KVM cannot be used: {kvm}"))),
                Err(qemu) => Err(EngineError::None { kvm, qemu }),
            },
        },
    }
}

fn usable(probe: Probe) -> Result<String, String> {
    if probe.usable { Ok(probe.reason) } else { Err(probe.reason) }
}

fn kvm(config: &Config, reason: String) -> Chosen {
    Chosen { engine: Box::new(Kvm { vmm: config.vmm.clone() }), reason }
}

fn qemu(config: &Config, qemu: PathBuf, reason: String) -> Chosen {
    Chosen { engine: Box::new(Qemu { vmm: config.vmm.clone(), qemu }), reason }
}

/// The absolute path of QEMU.
fn find_qemu(config: &Config) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").filter(|path| !path.is_empty());
    search(&config.qemu, &path.unwrap_or_else(|| DEFAULT_PATH.into()))
}

fn search(qemu: &Path, path: &std::ffi::OsStr) -> Result<PathBuf, String> {
    let help =
        format!("`apt-get install {QEMU_PACKAGE}`, or set `qemu` in the configuration to its path");
    let executable = |file: &PathBuf| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    if qemu.is_absolute() {
        let found = Some(qemu.to_owned()).filter(executable);
        return found.ok_or_else(|| format!("{} is not there; {help}", qemu.display()));
    }
    env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(qemu))
        .find(executable)
        .ok_or_else(|| format!("{} is not in PATH; {help}", qemu.display()))
}

#[cfg(test)]
mod tests;
