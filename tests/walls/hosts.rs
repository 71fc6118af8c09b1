//! No file names the host of a package mirror or registry: each machine's own
//! configuration of apt, cargo, go and pip does.

use std::fs;

use crate::source::files;
use crate::{none, tree};

/// Hosts, in two parts, so that this file does not name one.
const HOSTS: &[(&str, &str)] = &[
    ("deb", "debian.org"),
    ("ftp", "debian.org"),
    ("security", "debian.org"),
    ("snapshot", "debian.org"),
    ("archive", "ubuntu.com"),
    ("index", "crates.io"),
    ("static", "crates.io"),
    ("proxy", "golang.org"),
    ("sum", "golang.org"),
    ("pypi", "org"),
    ("files", "pythonhosted.org"),
    ("registry", "npmjs.org"),
];

/// The host that a line names.
fn named(line: &str) -> Option<String> {
    HOSTS.iter().map(|(host, domain)| format!("{host}.{domain}")).find(|host| line.contains(host))
}

#[test]
fn no_file_names_a_mirror() {
    let mut paths = files("");
    paths.push(tree().join(".ci/run"));
    // Written by cargo and go.
    paths.retain(|path| !path.ends_with("Cargo.lock") && !path.ends_with("go.sum"));
    let offences = paths.iter().flat_map(|path| {
        let text = fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let hosts: Vec<String> = text.lines().filter_map(named).collect();
        hosts.into_iter().map(|host| format!("{}: {host}", path.display()))
    });
    none(offences.collect(), "take the mirror from the machine's configuration");
}

#[test]
fn hosts_are_found_in_lines() {
    let url = ["mirror=https://deb", "debian", "org/debian"].join(".");
    assert!(named(&url).is_some());
    assert_eq!(named("mirror=$(apt-get indextargets)"), None);
}
