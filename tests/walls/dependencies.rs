//! What the manifests declare is used.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{none, source, tree};

/// Crates that only generated code names, which is not in the tree.
const IN_GENERATED: (&str, &[&str]) = ("agent/protocol", &["async-trait", "protobuf", "ttrpc"]);

/// The crates of `[workspace.dependencies]`.
fn declared() -> BTreeSet<String> {
    let text = fs::read_to_string(tree().join("Cargo.toml")).unwrap();
    let lines = text.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let table = lines.take_while(|line| !line.starts_with('['));
    table.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect()
}

/// Each member's manifest, with the crates that it declares.
fn members() -> Vec<(String, BTreeSet<String>)> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--no-deps"])
        .current_dir(tree())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let meta: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        (text(&package["manifest_path"]), all.map(|one| text(&one["name"])).collect())
    };
    meta["packages"].as_array().unwrap().iter().map(of).collect()
}

/// All source of the crate in `directory`, without that of crates below it.
fn source_of(directory: &Path) -> String {
    let is_own = |path: &Path| {
        path.ancestors().find(|dir| dir.join("Cargo.toml").exists()) == Some(directory)
    };
    let files = source::files(".rs").into_iter().filter(|path| is_own(path));
    files.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// True where a path begins with the crate's name, or a `use` or `extern crate` ends with it.
fn names(source: &str, package: &str) -> bool {
    let name = package.replace('-', "_");
    source.match_indices(&name).any(|(at, _)| {
        let begins = !source[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
        let after = &source[at + name.len()..];
        begins && ["::", ";", " as "].iter().any(|end| after.starts_with(end))
    })
}

#[test]
fn every_dependency_is_used() {
    let members = members();
    let used: BTreeSet<String> = members.iter().flat_map(|(_, crates)| crates.clone()).collect();
    let unused = declared().difference(&used).cloned().collect();
    none(unused, "in [workspace.dependencies], and used by no member");
    let unnamed = members.iter().flat_map(|(manifest, crates)| {
        let directory = Path::new(manifest).parent().unwrap();
        let generated = if directory.ends_with(IN_GENERATED.0) { IN_GENERATED.1 } else { &[] };
        let source = source_of(directory);
        let is_named = move |name: &str| generated.contains(&name) || names(&source, name);
        let unnamed = crates.iter().filter(move |name| !is_named(name));
        unnamed.map(move |name| format!("{manifest}: {name}"))
    });
    none(unnamed.collect(), "declared by a member whose sources do not name it");
}

#[test]
fn only_a_path_from_the_crate_names_it() {
    assert!(names("use log::info;", "log") && names("extern crate a_b;", "a-b"));
    assert!(!names("nix::libc::c_int, catalog::x, logger::y, a log of", "log"));
    assert!(!names("nix::libc::c_int", "libc"));
}
