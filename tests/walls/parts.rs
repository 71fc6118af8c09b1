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
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let mut missing = vec![];
    for target in targets {
        let name = target["name"].as_str().unwrap();
        let runs = match target["kind"][0].as_str().unwrap() {
            "test" => BY_SCRIPTS.contains(&name) || makefile.contains(&format!("--test {name}")),
            "bin" if target["test"] == true => makefile.split_whitespace().any(|w| w == name),
            _ => true,
        };
        if !runs {
            missing.push(name.to_owned());
        }
    }
    none(missing, "no target of the Makefile runs");
}
