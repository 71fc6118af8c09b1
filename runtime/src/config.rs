mod network;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io};

use serde::Deserialize;

use crate::failure::ErrorKind;

pub use network::NetworkConfig;

/// The default path of the configuration.
const DEFAULT_PATH: &str = "/etc/sandbox/config.toml";
const PATH_VARIABLE: &str = "SANDBOX_CONFIG";
/// Longest `state_dir`: sockets below it must fit into the 108 bytes of a
/// Unix socket's address.
const MAX_STATE_DIR: usize = 64;

/// Which engine runs the virtual machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// KVM where it works, else QEMU.
    #[default]
    Auto,
    /// The own VMM on KVM.
    Kvm,
    /// QEMU without KVM.
    Qemu,
}

/// The size of a guest when nothing else asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VmDefaults {
    /// Virtual CPUs.
    pub vcpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
}

impl Default for VmDefaults {
    fn default() -> Self {
        Self { vcpus: 1, memory_mib: 512 }
    }
}

/// The host's configuration of Sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which engine.
    pub engine: EngineChoice,
    /// The guest's kernel, an uncompressed `vmlinux`.
    pub kernel: PathBuf,
    /// The guest's initramfs.
    pub initramfs: PathBuf,
    /// The `sandbox-vmm` binary.
    pub vmm: PathBuf,
    /// QEMU's binary; a name without a slash is searched in `PATH`.
    pub qemu: PathBuf,
    /// Where the directories of running pods are.
    pub state_dir: PathBuf,
    /// How long a guest may take until its agent answers. On the qemu engine
    /// each vCPU but the first has three seconds more.
    pub boot_timeout_seconds: u64,
    /// Sizes of guests.
    pub vm: VmDefaults,
    /// What sandboxes reach.
    pub network: NetworkConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: EngineChoice::Auto,
            kernel: "/usr/lib/sandbox/vmlinux".into(),
            initramfs: "/usr/lib/sandbox/initramfs.cpio".into(),
            vmm: "/usr/lib/sandbox/sandbox-vmm".into(),
            qemu: "qemu-system-x86_64".into(),
            state_dir: "/run/sandbox".into(),
            boot_timeout_seconds: 30,
            vm: VmDefaults::default(),
            network: NetworkConfig::default(),
        }
    }
}

/// A configuration that cannot be used.
#[allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}")]
    Read { path: PathBuf, source: io::Error },
    /// The file is not what it should be: unknown key, wrong type, no TOML.
    #[error("{path} is not a valid configuration: {reason}")]
    Parse {
        path: PathBuf,
        /// The key and what is wrong with it.
        reason: String,
    },
    /// A value that parses and cannot be used.
    #[error("{path}: {key} {reason}")]
    Value { path: PathBuf, key: &'static str, reason: String },
}

impl ConfigError {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::FailedPrecondition
    }
}

impl Config {
    /// Reads the file that the environment's `SANDBOX_CONFIG` names, which
    /// must then exist, or `/etc/sandbox/config.toml`, which may be missing.
    pub fn load() -> Result<Self, ConfigError> {
        match env::var_os(PATH_VARIABLE) {
            Some(path) if !path.is_empty() => Self::from_file(Path::new(&path)),
            _ => match Self::from_file(Path::new(DEFAULT_PATH)) {
                Err(ConfigError::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    Ok(Self::default())
                }
                other => other,
            },
        }
    }

    /// Reads one file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text).map_err(|e| ConfigError::Parse {
            path: path.to_owned(),
            reason: e.to_string().trim_end().to_owned(),
        })?;
        config.check(path)?;
        Ok(config)
    }

    /// How long a guest may take until its agent answers.
    pub fn boot_timeout(&self) -> Duration {
        Duration::from_secs(self.boot_timeout_seconds)
    }

    fn check(&self, file: &Path) -> Result<(), ConfigError> {
        let bad = |key, reason: String| ConfigError::Value { path: file.to_owned(), key, reason };
        for (key, path) in [
            ("kernel", &self.kernel),
            ("initramfs", &self.initramfs),
            ("vmm", &self.vmm),
            ("state_dir", &self.state_dir),
        ] {
            if !path.is_absolute() {
                return Err(bad(key, format!("must be an absolute path, it is {path:?}")));
            }
        }
        let len = self.state_dir.as_os_str().len();
        if len > MAX_STATE_DIR {
            return Err(bad(
                "state_dir",
                format!("has {len} bytes, sockets below it leave room for {MAX_STATE_DIR}"),
            ));
        }
        if self.boot_timeout_seconds == 0 {
            return Err(bad("boot_timeout_seconds", "must be at least 1".to_owned()));
        }
        let vm = sandbox_vm_spec::VmSpec {
            vcpus: self.vm.vcpus,
            memory_mib: self.vm.memory_mib,
            cmdline: String::new(),
        };
        vm.validate().map_err(|e| bad("[vm]", format!("cannot be used: {e}")))?;
        self.network.check().map_err(|(key, reason)| bad(key, reason))
    }
}

#[cfg(test)]
mod tests;
