use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use crate::bundle::{self, BundleError};
use crate::hooks::{Hooks, Phase};

/// The file of a container's DNS servers.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The network namespace that a spec asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// That of the runtime.
    #[default]
    Host,
    /// A new one.
    New,
    /// This one.
    Path(PathBuf),
}

/// The virtual machine of a pod, as described by the bundle of its first
/// container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// The bundle.
    pub bundle: PathBuf,
    /// The guest's host name; the pod's id when empty.
    pub hostname: String,
    /// `io.sandbox.*` annotations count.
    pub annotations: HashMap<String, String>,
    /// CPU quota over period, in CPUs.
    pub cpus: Option<f64>,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// `linux.cgroupsPath`: where the pod's processes on the host go.
    pub cgroups_path: Option<String>,
    /// Its network namespace.
    pub network: NetworkNamespace,
    /// Whether hooks run once that namespace is there.
    pub has_create_hooks: bool,
    /// The host's file that is mounted as the container's resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// Sysctls of the pod, which none of its containers has to name.
    pub sysctls: HashMap<String, String>,
}

impl PodSpec {
    /// Reads `config.json` of a bundle.
    pub fn from_bundle(bundle: &Path) -> Result<Self, BundleError> {
        Ok(Self::from_spec(bundle, &bundle::read(bundle)?))
    }

    /// CPUs of a quota in microseconds per period, by default the kernel's period
    /// of 100 ms. None without a quota.
    pub fn cpus_of(quota: i64, period: Option<u64>) -> Option<f64> {
        let period = period.filter(|period| *period > 0).unwrap_or(100_000);
        (quota > 0).then(|| quota as f64 / period as f64)
    }

    fn from_spec(bundle: &Path, spec: &Spec) -> Self {
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let cpu = resources.and_then(|resources| resources.cpu().as_ref());
        let memory = resources.and_then(|resources| resources.memory().as_ref());
        let cgroups_path = linux.and_then(|linux| linux.cgroups_path().as_ref());
        Self {
            bundle: bundle.to_owned(),
            hostname: spec.hostname().clone().unwrap_or_default(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            cpus: cpu.and_then(|cpu| Self::cpus_of(cpu.quota()?, cpu.period())),
            memory: memory.and_then(|memory| memory.limit()?.try_into().ok()).filter(|l| *l > 0),
            cgroups_path: cgroups_path.map(|path| path.to_string_lossy().into_owned()),
            network: network(spec),
            has_create_hooks: Hooks::of(spec, "", bundle).has(Phase::Create),
            resolv_conf: resolv_conf(spec).and_then(|mount| mount.source().clone()),
            // A container's are in its own spec.
            sysctls: HashMap::new(),
        }
    }
}

fn network(spec: &Spec) -> NetworkNamespace {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let network = namespaces
        .into_iter()
        .flatten()
        .find(|namespace| namespace.typ() == LinuxNamespaceType::Network);
    match network.map(|namespace| namespace.path().clone()) {
        None => NetworkNamespace::Host,
        Some(None) => NetworkNamespace::New,
        Some(Some(path)) if path.as_os_str().is_empty() => NetworkNamespace::New,
        Some(Some(path)) => NetworkNamespace::Path(path),
    }
}

/// The mount that makes a container's resolv.conf, if it has one.
pub(crate) fn resolv_conf(spec: &Spec) -> Option<&Mount> {
    let mut mounts = spec.mounts().iter().flatten();
    mounts.rfind(|mount| mount.destination() == Path::new(RESOLV_CONF))
}

#[cfg(test)]
mod tests;
