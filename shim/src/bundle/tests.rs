#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use super::*;

fn bundle(spec: &str) -> (tempfile::TempDir, Bundle) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), spec).unwrap();
    let bundle = Bundle::at(dir.path());
    (dir, bundle)
}

#[test]
fn the_pod_of_a_container() {
    let table = [
        (r#"{}"#, "web"),
        (r#"{"annotations":null}"#, "web"),
        (r#"{"annotations":{"other":"x"}}"#, "web"),
        (r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#, "pod"),
        (r#"{"annotations":{"io.containerd.runc.v2.group":"group"}}"#, "group"),
        (
            r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.containerd.runc.v2.group":"pod"}}"#,
            "pod",
        ),
    ];
    for (spec, pod) in table {
        assert_eq!(bundle(spec).1.pod_of("web").unwrap(), pod, "{spec}");
    }
}

/// A pod author's annotation does not lead into another pod's virtual machine.
#[test]
fn a_group_that_is_not_the_cri_sandbox_is_refused() {
    let spec = r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"own","io.containerd.runc.v2.group":"victim"}}"#;
    let error = bundle(spec).1.pod_of("web").unwrap_err().to_string();
    assert!(error.contains("own") && error.contains("victim"), "{error}");
}

#[test]
fn a_spec_that_is_none_is_refused_by_path() {
    for spec in ["", "7", r#"{"annotations":7}"#, r#"{"annotations":{"a":1}}"#, "{"] {
        let (_dir, bundle) = bundle(spec);
        let error = bundle.pod_of("web").unwrap_err();
        assert!(matches!(error, BundleError::Spec { .. }), "{spec}");
        assert!(error.to_string().contains("config.json"));
    }
    let gone = Bundle::at("/nowhere");
    let error = gone.pod_of("web").unwrap_err();
    assert!(matches!(error, BundleError::Read { .. }));
    assert!(error.to_string().contains("/nowhere/config.json"));
}

#[test]
fn what_is_kept_is_private_and_comes_back() {
    let (dir, bundle) = bundle("{}");
    assert_eq!(bundle.address(), None);
    assert_eq!(bundle.config_path(), None);
    bundle.set_address("unix:///a").unwrap();
    bundle.set_address("unix:///b").unwrap();
    bundle.set_config_path("/c.toml").unwrap();
    let me = ProcessId::of(std::process::id()).unwrap();
    bundle.set_process(me).unwrap();
    assert_eq!(bundle.address().as_deref(), Some("unix:///b"));
    assert_eq!(bundle.config_path(), Some("/c.toml".into()));
    for name in ["address", "shim.json", "sandbox-config"] {
        let meta = fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
}

#[test]
fn a_shim_has_ended_when_another_process_has_its_pid() {
    let (dir, bundle) = bundle("{}");
    assert!(!bundle.shim_has_ended(), "nothing was kept");
    let me = ProcessId::of(std::process::id()).unwrap();
    bundle.set_process(me).unwrap();
    assert!(!bundle.shim_has_ended());
    bundle.set_process(ProcessId { start_time: me.start_time + 1, ..me }).unwrap();
    assert!(bundle.shim_has_ended());
    fs::write(dir.path().join("shim.json"), "12").unwrap();
    assert!(!bundle.shim_has_ended(), "what is kept names no process");
}

#[test]
fn a_member_of_a_pod_has_the_address_that_containerd_kept() {
    let (dir, bundle) = bundle("{}");
    let kept = r#"{"version":3,"address":"unix:///pod","protocol":"ttrpc"}"#;
    fs::write(dir.path().join("bootstrap.json"), kept).unwrap();
    assert_eq!(bundle.address().as_deref(), Some("unix:///pod"));
    fs::write(dir.path().join("bootstrap.json"), "{").unwrap();
    assert_eq!(bundle.address(), None);
}

#[test]
fn the_log_takes_lines_without_a_reader_and_never_blocks() {
    let (dir, bundle) = bundle("{}");
    assert!(bundle.log().is_err(), "a missing FIFO is not made");
    let fifo = dir.path().join("log");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut log = bundle.log().unwrap();
    log.write_all(b"a line\n").unwrap();
    let full = (0..1000).find_map(|_| log.write_all(&[b'x'; 4096]).err());
    assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
}
