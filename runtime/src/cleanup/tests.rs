#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Child, Command};

use super::*;
use crate::state::{Description, Member};

fn id() -> PodId {
    PodId::new("default", "a").unwrap()
}

fn config(dir: &Path) -> Config {
    Config { state_dir: dir.to_owned(), ..Config::default() }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("100").spawn().unwrap()
}

/// A pod whose shim is `shim` and whose only process is `member`.
fn write_state(directory: &PodDirectory, shim: ProcessId, member: ProcessId) {
    let mut state = State::new(Description {
        namespace: "default".into(),
        id: "a".into(),
        bundle: "/bundle".into(),
        engine: "qemu".into(),
        engine_reason: "asked".into(),
        vcpus: 1,
        memory_mib: 128,
        started: 0,
        network: "developer".to_owned(),
    });
    for (role, process) in [("shim", shim), ("io", member)] {
        state.processes.push(Member { role: role.into(), process });
    }
    state.write(&directory.state()).unwrap();
}

fn dead() -> ProcessId {
    ProcessId { start_time: 1, pid: std::process::id() }
}

#[test]
fn survivors_are_killed_and_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = sleeper();
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    directory.set_up().unwrap();
    write_state(&directory, dead(), ProcessId::of(child.id()).unwrap());
    drop(directory);
    cleanup(&config(dir.path()), &id(), Path::new("/bundle")).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    cleanup(&config(dir.path()), &id(), Path::new("/bundle")).unwrap();
}

#[test]
fn a_process_with_a_reused_pid_lives() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = sleeper();
    let now = ProcessId::of(child.id()).unwrap();
    let former = ProcessId { start_time: now.start_time + 1, ..now };
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    write_state(&directory, former, former);
    drop(directory);
    cleanup(&config(dir.path()), &id(), Path::new("/bundle")).unwrap();
    assert!(now.is_alive());
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_running_pod_of_another_bundle_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    let me = ProcessId::of(std::process::id()).unwrap();
    write_state(&directory, me, me);
    cleanup(&config(dir.path()), &id(), Path::new("/other")).unwrap();
    assert!(directory.state().exists());
}

#[test]
fn empty_cut_off_and_foreign_states_do_not_hinder() {
    let dir = tempfile::tempdir().unwrap();
    for content in ["", "{\"version\":1,\"names", "[]", "{}"] {
        let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
        std::fs::write(directory.state(), content).unwrap();
        drop(directory);
        cleanup(&config(dir.path()), &id(), Path::new("/bundle")).unwrap();
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "{content:?}");
    }
}

#[test]
fn no_state_directory_is_no_error() {
    let config = config(Path::new("/nonexistent"));
    cleanup(&config, &id(), Path::new("/bundle")).unwrap();
}

#[test]
fn hooks_are_told_of_an_end_that_the_shim_did_not_see() {
    let (dir, bundle) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hook = serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", ": >told"]});
    let spec = serde_json::json!({"ociVersion": "1.1.0", "hooks": {"poststop": [hook]}});
    std::fs::write(bundle.path().join("config.json"), spec.to_string()).unwrap();
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    directory.set_up().unwrap();
    write_state(&directory, dead(), dead());
    hooks::Marker::set(&directory.hooks(), "a", bundle.path()).unwrap();
    drop(directory);
    cleanup(&config(dir.path()), &id(), Path::new("/bundle")).unwrap();
    assert!(bundle.path().join("told").exists());
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}
