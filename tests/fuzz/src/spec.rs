//! Any bytes as the OCI spec that the agent is asked to run.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use sandbox_agent::spec::{Prepared, prepare};
use sandbox_agent::stdio::Wanted;
use sandbox_agent_protocol::SHARE_DIR;

fuzz_target!(|bytes: &[u8]| {
    let Some((flags, json)) = bytes.split_first() else { return };
    let wanted = Wanted { stdin: true, stdout: true, stderr: true, terminal: flags & 1 == 1 };
    if let Ok(prepared) = prepare("c", json, wanted) {
        check(&prepared);
    }
});

/// What holds of every spec that is handed to libcontainer.
fn check(prepared: &Prepared) {
    let spec = &prepared.spec;
    let root = spec.root().as_ref().unwrap().path();
    assert!(root.starts_with(SHARE_DIR) && root != Path::new(SHARE_DIR));
    assert!(root.components().all(|component| component != Component::ParentDir));
    if let Some(hooks) = spec.hooks() {
        assert!(hooks.create_runtime().is_none() && hooks.create_container().is_none());
        assert!(hooks.poststart().is_none() && hooks.poststop().is_none());
    }
    let process = spec.process().as_ref().unwrap();
    assert!(!process.args().as_ref().unwrap().is_empty());
    assert!(process.cwd().is_absolute());
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/container-c")));
    let namespaces = linux.namespaces().as_ref().unwrap();
    assert!(namespaces.iter().any(|namespace| namespace.typ().to_string() == "mnt"));
    assert!(namespaces.iter().all(|namespace| namespace.typ().to_string() != "net"));
    for (key, _) in &prepared.guest_sysctls {
        assert!(
            ["net", "fs", "kernel"].iter().any(|top| key.starts_with(top)) && !key.contains("..")
        );
    }
    // libcontainer reads it again from a file.
    serde_json::to_vec(spec).unwrap();
}
