use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

/// The default path of the node's policy.
const DEFAULT_POLICY: &str = "/etc/sandbox/policy.toml";
/// Most addresses of the developer network's guest, and networks of a cluster.
const MAX_NETWORKS: usize = 64;

/// The `[network]` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Whether a pod whose spec has no network namespace gets the host's.
    pub allow_host: bool,
    /// Whether a pod whose namespace is not set up gets a network behind
    /// the host's own.
    pub developer: bool,
    /// The guest's addresses in the developer network, with their prefixes.
    pub developer_addresses: Vec<IpNet>,
    /// The node's policy; unset, `/etc/sandbox/policy.toml` if there is one.
    pub policy: Option<PathBuf>,
    /// PodDirectory of the policies that pods may name.
    pub policies: PathBuf,
    /// Where audits are kept beyond the ends of their pods; unset, they are
    /// in the pods' directories.
    pub audit_dir: Option<PathBuf>,
    /// Networks of the cluster, for the policy's class of that name.
    pub cluster: Vec<IpNet>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let default = |text: &str| text.parse::<IpNet>().ok();
        Self {
            allow_host: false,
            developer: true,
            developer_addresses: ["10.0.2.15/24", "fd00::15/64"]
                .into_iter()
                .filter_map(default)
                .collect(),
            policy: None,
            policies: "/etc/sandbox/policies".into(),
            audit_dir: None,
            cluster: Vec::new(),
        }
    }
}

impl NetworkConfig {
    /// The node's policy file.
    pub fn policy_file(&self) -> PathBuf {
        self.policy.clone().unwrap_or_else(|| DEFAULT_POLICY.into())
    }

    /// Whether that file must be there: one that is named must.
    pub(crate) fn must_have_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// The key and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let paths = [
            ("network.policy", self.policy.as_deref()),
            ("network.policies", Some(self.policies.as_path())),
            ("network.audit_dir", self.audit_dir.as_deref()),
        ];
        for (key, path) in paths {
            let wrong = |path: &&Path| !path.is_absolute();
            if let Some(path) = path.filter(wrong) {
                return Err((key, format!("must be an absolute path, it is {path:?}")));
            }
        }
        let many = |list: &Vec<IpNet>| list.len() > MAX_NETWORKS;
        if many(&self.cluster) {
            let count = self.cluster.len();
            return Err((
                "network.cluster",
                format!("has {count} networks, at most {MAX_NETWORKS}"),
            ));
        }
        if let Some(net) = self.cluster.iter().find(|net| net.addr() != net.network()) {
            let fix = format!("{net} has host bits set: write {}", net.trunc());
            return Err(("network.cluster", fix));
        }
        self.check_developer().map_err(|reason| ("network.developer_addresses", reason))
    }

    fn check_developer(&self) -> Result<(), String> {
        if self.developer && self.developer_addresses.is_empty() {
            return Err("is empty: give an address, or set developer = false".to_owned());
        }
        if many_of_a_family(&self.developer_addresses) {
            return Err("may hold one IPv4 and one IPv6 address".to_owned());
        }
        for own in &self.developer_addresses {
            let ip = own.addr();
            let odd = ip.is_loopback() || ip.is_multicast() || ip.is_unspecified();
            if odd || own.max_prefix_len() - own.prefix_len() < 2 || ip == own.network() {
                return Err(format!("{own} is not the address of a host in a network of some"));
            }
        }
        Ok(())
    }
}

fn many_of_a_family(addresses: &[IpNet]) -> bool {
    let ipv4 = addresses.iter().filter(|own| own.addr().is_ipv4()).count();
    ipv4 > 1 || addresses.len() - ipv4 > 1
}
