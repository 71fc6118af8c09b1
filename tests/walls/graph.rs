//! Walls between crates.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::{none, tree};

/// Crates of the workspace and what each may use of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    ("sandbox-agent", &["sandbox-agent-protocol", "sandbox-netlink"]),
    ("sandbox-agent-protocol", &[]),
    ("sandbox-bench", &["sandbox-tests"]),
    ("sandbox-devices", &["sandbox-netstack", "sandbox-vm-spec"]),
    (
        "sandbox-fuzz",
        &[
            "sandbox-agent",
            "sandbox-agent-protocol",
            "sandbox-devices",
            "sandbox-netstack",
            "sandbox-vm-spec",
        ],
    ),
    ("sandbox-mapped", &[]),
    ("sandbox-netlink", &[]),
    ("sandbox-netstack", &["sandbox-mapped"]),
    (
        "sandbox-runtime",
        &["sandbox-agent-protocol", "sandbox-netlink", "sandbox-netstack", "sandbox-vm-spec"],
    ),
    ("sandbox-shim", &["sandbox-runtime"]),
    ("sandbox-tests", &["sandbox-agent-protocol"]),
    ("sandbox-toolbox", &[]),
    ("sandbox-vm-spec", &[]),
    ("sandbox-vmm", &["sandbox-devices", "sandbox-mapped", "sandbox-netstack", "sandbox-vm-spec"]),
    ("sandboxctl", &["sandbox-netstack", "sandbox-runtime", "sandbox-vm-spec"]),
];

/// Crates of which two versions in one build would be two ideas of the same
/// memory, ring or ioctl.
const RUST_VMM: &[&str] = &[
    "event-manager",
    "kvm-bindings",
    "kvm-ioctls",
    "linux-loader",
    "vhost",
    "vhost-user-backend",
    "virtio-bindings",
    "virtio-queue",
    "vm-memory",
    "vm-superio",
    "vmm-sys-util",
];

/// The resolved graph: package id to name and to what it uses.
struct Graph {
    name: BTreeMap<String, String>,
    normal: BTreeMap<String, Vec<String>>,
    every: BTreeMap<String, Vec<String>>,
    members: Vec<String>,
}

impl Graph {
    fn read() -> Self {
        let out = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--offline"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(tree())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let meta: Value = serde_json::from_slice(&out.stdout).unwrap();
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let list = |v: &Value| v.as_array().unwrap().clone();

        let name =
            list(&meta["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let members = list(&meta["workspace_members"]).iter().map(text).collect();
        let (mut normal, mut every) = (BTreeMap::new(), BTreeMap::new());
        for node in list(&meta["resolve"]["nodes"]) {
            let (mut of_normal, mut of_every) = (vec![], vec![]);
            for dep in list(&node["deps"]) {
                of_every.push(text(&dep["pkg"]));
                if list(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null()) {
                    of_normal.push(text(&dep["pkg"]));
                }
            }
            normal.insert(text(&node["id"]), of_normal);
            every.insert(text(&node["id"]), of_every);
        }
        Self { name, normal, every, members }
    }

    fn member(&self, name: &str) -> &String {
        self.members
            .iter()
            .find(|id| self.name[*id] == name)
            .unwrap_or_else(|| panic!("no crate {name}"))
    }

    /// Names of everything that `from` is linked with, not looking behind the
    /// crates named in `past`.
    fn linked(&self, from: &str, past: &[&str]) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![self.member(from)];
        while let Some(id) = todo.pop() {
            if seen.insert(self.name[id].as_str()) && !past.contains(&self.name[id].as_str()) {
                todo.extend(&self.normal[id]);
            }
        }
        seen.remove(from);
        seen
    }
}

fn matching(names: &BTreeSet<&str>, prefixes: &[&str]) -> Vec<String> {
    names
        .iter()
        .filter(|n| prefixes.iter().any(|p| n.starts_with(p)))
        .map(|n| (*n).to_owned())
        .collect()
}

/// Device logic knows rings and guest memory and nothing of who carries them.
/// `virtiofsd` is one crate with a vhost-user front of its own, which it links
/// always and which we do not call; the wall stands around it
/// (`docs/decisions/002-virtiofsd-behind-the-wall.md`).
#[test]
fn devices_know_no_kvm_no_vhost_and_no_tokio() {
    let graph = Graph::read();
    let linked = graph.linked("sandbox-devices", &["virtiofsd"]);
    none(matching(&linked, &["kvm-", "vhost", "tokio", "mio"]), "sandbox-devices is linked with");
    let behind = graph.linked("sandbox-devices", &[]);
    none(
        matching(&behind, &["kvm-", "tokio"]),
        "sandbox-devices is linked, through virtiofsd, with",
    );
}

/// The shim's process parses nothing that a guest's ring holds.
#[test]
fn shim_knows_no_kvm_and_no_virtio() {
    let graph = Graph::read();
    let linked = graph.linked("sandbox-shim", &[]);
    none(
        matching(&linked, &["kvm-", "virtio", "vhost", "vm-memory", "linux-loader"]),
        "sandbox-shim is linked with",
    );
}

#[test]
fn the_agent_knows_nothing_of_the_host() {
    let graph = Graph::read();
    let linked = graph.linked("sandbox-agent", &[]);
    none(
        matching(
            &linked,
            &["kvm-", "virtio", "vhost", "containerd-", "sandbox-runtime", "sandbox-vm-spec"],
        ),
        "sandbox-agent is linked with",
    );
}

#[test]
fn crates_use_only_what_the_layout_allows() {
    let graph = Graph::read();
    let mut offences = vec![];
    for id in &graph.members {
        let name = &graph.name[id];
        let Some((_, allowed)) = MAY_USE.iter().find(|(n, _)| n == name) else {
            offences.push(format!("{name} is not in the table of this test"));
            continue;
        };
        for used in graph.every[id].iter().filter(|u| graph.members.contains(u)) {
            if !allowed.contains(&graph.name[used].as_str()) {
                offences.push(format!("{name} uses {}", graph.name[used]));
            }
        }
    }
    none(offences, "the table of crates in docs/architecture.md does not allow that");
}

/// Cargo itself allows a cycle through dev-dependencies; the layout does not.
#[test]
fn no_cycles() {
    let graph = Graph::read();
    for start in &graph.members {
        let mut todo: Vec<_> = graph.every[start].iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = todo.pop() {
            assert_ne!(id, start, "{} depends on itself", graph.name[start]);
            if graph.members.contains(id) && seen.insert(id) {
                todo.extend(&graph.every[id]);
            }
        }
    }
}

#[test]
fn one_version_of_every_rust_vmm_crate() {
    let graph = Graph::read();
    let offences = RUST_VMM
        .iter()
        .filter_map(|crate_name| {
            let ids: Vec<_> =
                graph.normal.keys().filter(|id| graph.name[*id] == *crate_name).cloned().collect();
            (ids.len() > 1).then(|| ids.join(" and "))
        })
        .collect();
    none(offences, "more than one version of");
}

/// Versions stand once, in the root: two members cannot drift apart.
#[test]
fn members_take_versions_from_the_workspace() {
    let mut offences = vec![];
    for manifest in crate::source::files(".toml").into_iter().filter(|p| p.ends_with("Cargo.toml"))
    {
        if manifest == tree().join("Cargo.toml") {
            continue;
        }
        let text = std::fs::read_to_string(&manifest).unwrap();
        let mut in_dependencies = false;
        for line in text.lines() {
            if let Some(section) = line.strip_prefix('[') {
                in_dependencies = section.contains("dependencies");
            } else if in_dependencies && line.contains('=') && !line.contains("workspace") {
                offences.push(format!("{}: {line}", manifest.display()));
            }
        }
    }
    none(offences, "dependencies with a version of their own");
}
