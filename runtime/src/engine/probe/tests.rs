#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use super::*;

/// A script that stands for the binary. Another process writes it: what a test
/// beside this one forks holds what is open here until it executes its program,
/// and a file that is open for writing cannot be executed (ETXTBSY).
fn binary(dir: &Path, script: &str) -> std::path::PathBuf {
    let (text, path) = (dir.join("text"), dir.join("vmm"));
    fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
    let made = Command::new("install").args(["-m", "700"]).args([&text, &path]).status();
    assert!(made.unwrap().success());
    path
}

#[test]
fn the_answer_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let vmm = binary(dir.path(), r#"echo '{"usable":true,"reason":"runs ring 0"}'"#);
    assert_eq!(ask(&vmm).unwrap(), Probe { usable: true, reason: "runs ring 0".into() });
}

#[test]
fn no_answer_a_wrong_one_and_a_missing_binary_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let error = ask(&binary(dir.path(), "echo what")).unwrap_err();
    assert!(error.to_string().contains("what"), "{error}");
    assert!(ask(&binary(dir.path(), "exit 1")).is_err());
    assert!(ask(&binary(dir.path(), "exec cat /dev/zero")).is_err());
    assert_eq!(ask(Path::new("/nonexistent/vmm")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_verdict_is_kept_until_the_binary_changes() {
    if !Path::new(DEVICE).exists() {
        return assert!(probe(&Config::default()).reason.contains(DEVICE));
    }
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo x >>"${0%/*}/calls"; echo '{"usable":false,"reason":"slow"}'"#;
    let config = Config {
        vmm: binary(dir.path(), script),
        state_dir: dir.path().to_owned(),
        ..Config::default()
    };
    let calls = || fs::read_to_string(dir.path().join("calls")).unwrap().lines().count();
    assert_eq!(probe(&config), Probe::unusable("slow".into()));
    assert_eq!(probe(&config), Probe::unusable("slow".into()));
    assert_eq!(calls(), 1);
    fs::remove_file(&config.vmm).unwrap();
    binary(dir.path(), script);
    probe(&config);
    assert_eq!(calls(), 2);
}

#[test]
fn no_answer_is_asked_for_again() {
    if !Path::new(DEVICE).exists() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo x >>"${0%/*}/calls"; exit 1"#;
    let config = Config {
        vmm: binary(dir.path(), script),
        state_dir: dir.path().to_owned(),
        ..Config::default()
    };
    for _ in 0..2 {
        let probe = probe(&config);
        assert!(!probe.usable && probe.reason.contains("probe failed"), "{}", probe.reason);
    }
    assert_eq!(fs::read_to_string(dir.path().join("calls")).unwrap().lines().count(), 2);
}
