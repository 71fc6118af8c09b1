//! The pod that a CreateSandbox describes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, Message};
use containerd_shim_protos::sandbox_api::CreateSandboxRequest;
use sandbox_runtime::{BundleError, NetworkNamespace, PodSpec};
use thiserror::Error;

use super::resolv_conf;
use crate::messages::cri::{DNSConfig, NamespaceMode, PodSandboxConfig};

#[cfg(test)]
mod tests;

/// containerd's name for the CRI's description of a sandbox.
const POD_SANDBOX_CONFIG: &str = "runtime.v1.PodSandboxConfig";

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("invalid options of type {0:?}: give {POD_SANDBOX_CONFIG}, or none")]
    Unknown(String),
    #[error("cannot decode the options as {POD_SANDBOX_CONFIG}")]
    Undecodable(#[source] protobuf::Error),
    #[error(transparent)]
    Spec(#[from] BundleError),
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// The pod of the request, based on the bundle's spec if it has one.
pub fn pod_spec(
    request: &CreateSandboxRequest,
    bundle: &Path,
    has_spec: bool,
) -> Result<PodSpec, ConfigError> {
    let config = options(request.options.as_ref())?;
    let mut spec = if has_spec {
        PodSpec::from_bundle(bundle)?
    } else {
        PodSpec { bundle: bundle.to_owned(), ..PodSpec::default() }
    };
    spec.annotations.extend(config.annotations.clone());
    spec.annotations.extend(request.annotations.clone());
    if !config.hostname.is_empty() {
        spec.hostname.clone_from(&config.hostname);
    }
    let network = config.linux.security_context.namespace_options.network;
    if !request.netns_path.is_empty() {
        spec.network = NetworkNamespace::Path(request.netns_path.clone().into());
    } else if network.enum_value() == Ok(NamespaceMode::NODE) {
        spec.network = NetworkNamespace::Host;
    } else if !has_spec {
        spec.network = NetworkNamespace::New;
    }
    spec.sysctls.clone_from(&config.linux.sysctls);
    let resources = &config.linux.resources;
    let period = u64::try_from(resources.cpu_period).ok();
    spec.cpus = PodSpec::cpus_of(resources.cpu_quota, period).or(spec.cpus);
    let memory = u64::try_from(resources.memory_limit_in_bytes).ok().filter(|limit| *limit > 0);
    spec.memory = memory.or(spec.memory);
    spec.cgroups_path =
        cgroup(&config.linux.cgroup_parent, &request.sandbox_id).or(spec.cgroups_path);
    if let Some(text) = servers(&config.dns_config) {
        let path = resolv_conf(bundle);
        let written = fs::write(&path, text);
        written.map_err(|source| ConfigError::Write { path: path.clone(), source })?;
        spec.resolv_conf = Some(path);
    }
    Ok(spec)
}

fn options(any: Option<&Any>) -> Result<PodSandboxConfig, ConfigError> {
    let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
        return Ok(PodSandboxConfig::default());
    };
    // With a host before it, or without.
    if any.type_url.rsplit('/').next() != Some(POD_SANDBOX_CONFIG) {
        return Err(ConfigError::Unknown(any.type_url.chars().take(256).collect()));
    }
    PodSandboxConfig::parse_from_bytes(&any.value).map_err(ConfigError::Undecodable)
}

/// Below the pod's own cgroup, as containerd's CRI has it for containers: in
/// systemd's way if the parent is a slice.
fn cgroup(parent: &str, id: &str) -> Option<String> {
    if parent.is_empty() {
        return None;
    }
    let slice = parent.rsplit('/').next().filter(|name| name.ends_with(".slice"));
    Some(match slice {
        Some(slice) => format!("{slice}:cri-containerd:{id}"),
        None => format!("{}/{id}", parent.trim_end_matches('/')),
    })
}

/// The text of `resolv.conf(5)`; none without DNS settings.
fn servers(dns: &DNSConfig) -> Option<String> {
    let line = |word: &str, values: &[String]| {
        if values.is_empty() { String::new() } else { format!("{word} {}\n", values.join(" ")) }
    };
    let servers = dns.servers.iter().map(|server| format!("nameserver {server}\n"));
    let text = line("search", &dns.searches)
        + &servers.collect::<String>()
        + &line("options", &dns.options);
    (!text.is_empty()).then_some(text)
}
