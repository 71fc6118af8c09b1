//! The KVM lab, for tests of the kvm engine on machines without usable KVM.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::paths;

/// Runs this program again in the lab, with the tests named `usual` unless its
/// arguments name others; returns where no lab is needed: another engine is
/// under test, this machine's KVM is usable, or this is the lab.
pub fn enter_without_kvm(usual: &[&str]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_list = arguments.iter().any(|argument| argument == "--list");
    if is_list || paths::engine() != "kvm" || paths::has_kvm() {
        return;
    }
    let names = arguments.iter().any(|argument| !argument.starts_with('-'));
    let only = if names { String::new() } else { usual.join(" ") };
    let tree = paths::tree();
    let mut lab = Command::new(tree.join("tests/lab/run"));
    lab.current_dir(&tree)
        .args(["--force", "--memory", "4096", "--timeout", "1200", "--"])
        .arg(tree.join("tests/kvm/inside"))
        .arg(std::env::current_exe().unwrap())
        .args(arguments)
        .envs([("SANDBOX_TEST_DIR", "/run/disk"), ("SANDBOX_TEST_SLOW", "8")]);
    if !only.is_empty() {
        lab.env("SANDBOX_TEST_ONLY", only);
    }
    panic!("tests/lab/run: {}", lab.exec())
}
