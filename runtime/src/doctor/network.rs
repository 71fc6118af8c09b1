use std::path::Path;

use sandbox_netstack::policy::{Document, Loaded};

use super::Host;
use super::report::Check;
use crate::config::{Config, NetworkConfig};
use crate::network::policy_names;

/// What a pod would get.
pub(super) fn checks(host: &Host, config: &Config) -> Vec<Check> {
    let network = &config.network;
    let mut checks = vec![kinds(network), node(host, network)];
    checks.extend(named(host, &network.policies));
    checks
}

fn kinds(network: &NetworkConfig) -> Check {
    let (host, developer) = (network.allow_host, network.developer);
    let addresses: Vec<String> =
        network.developer_addresses.iter().map(ToString::to_string).collect();
    let without = match developer {
        true => format!("the developer network ({}) without one", addresses.join(", ")),
        false => "loopback alone without one".to_owned(),
    };
    let shared = if host { "allowed" } else { "refused" };
    let words = format!(
        "a sandbox has its namespace's interface, {without}; the host's network is {shared}"
    );
    Check::ok("network", words)
        .fact("allow_host", &host.to_string())
        .fact("developer", &developer.to_string())
}

/// Of the system's tier alone, unless the node has more.
fn node(host: &Host, network: &NetworkConfig) -> Check {
    let path = network.policy_file();
    let file = host.at(&path);
    if !file.exists() && !network.must_have_policy() {
        let words = format!(
            "{} is not there: sandboxes reach all but this node, link-local addresses and \
             metadata services",
            path.display()
        );
        return Check::ok("node policy", words);
    }
    match Document::read(&file) {
        Ok((_, loaded)) => found("node policy", &path, &loaded),
        Err(error) => Check::missing("node policy", crate::failure::chain(&error))
            .fix(format!("sandboxctl policy check {}", path.display())),
    }
}

/// Pods may name these; one that is broken keeps only its own from starting.
fn named(host: &Host, dir: &Path) -> Vec<Check> {
    let names = policy_names(&host.at(dir));
    let mut checks = Vec::new();
    for name in &names {
        let path = dir.join(format!("{name}.toml"));
        if let Err(error) = Document::read(&host.at(&path)) {
            let check = Check::warning("policy", crate::failure::chain(&error));
            checks.push(check.fix(format!("sandboxctl policy check {}", path.display())));
        }
    }
    if !names.is_empty() {
        let words = format!("pods may name {}, from {}", names.join(", "), dir.display());
        checks.insert(0, Check::ok("policies", words).fact("names", &names.join(",")));
    }
    checks
}

fn found(name: &'static str, path: &Path, loaded: &Loaded) -> Check {
    let rules = loaded.document.rules.len();
    let plural = if rules == 1 { "" } else { "s" };
    let words = format!("{}: {rules} rule{plural}", path.display());
    match loaded.warnings.first() {
        None => Check::ok(name, words),
        Some(warning) => Check::warning(name, format!("{words}; {warning}"))
            .fix(format!("sandboxctl policy check {}", path.display())),
    }
}
