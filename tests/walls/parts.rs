//! Each test target, and each program with tests, is in a part of `make test` or `make test-all`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::{none, tree};

/// Targets that a script of their own runs.
const BY_SCRIPTS: &[&str] = &["crictl", "lifecycles"];

#[test]
fn the_makefile_names_each_test_target() {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--no-deps"])
        .current_dir(tree())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let meta: Value = serde_json::from_slice(&out.stdout).unwrap();
    let makefile = fs::read_to_string(tree().join("Makefile")).unwrap();
    let packages = meta["packages"].as_array().unwrap().iter();
    let targets: Vec<&Value> =
        packages.flat_map(|package| package["targets"].as_array().unwrap()).collect();
    let names = |targets: Vec<&&Value>| -> Vec<String> {
        targets.iter().map(|target| target["name"].as_str().unwrap().to_owned()).collect()
    };
    let of = |kind: &str| targets.iter().filter(|target| target["kind"][0] == kind);
    let mut missing = names(of("test").collect());
    missing.retain(|name| {
        !BY_SCRIPTS.contains(&name.as_str()) && !makefile.contains(&format!("--test {name}"))
    });
    let mut untested = names(of("bin").filter(|target| target["test"] == true).collect());
    untested.retain(|name| !makefile.split_whitespace().any(|word| word == name));
    none([missing, untested].concat(), "no target of the Makefile runs");
}
