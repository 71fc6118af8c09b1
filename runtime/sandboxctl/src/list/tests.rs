#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn state(processes: serde_json::Value) -> State {
    serde_json::from_value(serde_json::json!({
        "version": 1,
        "namespace": "default",
        "id": "web",
        "bundle": "/b",
        "engine": "qemu",
        "engine_reason": "no /dev/kvm",
        "vcpus": 2,
        "memory_mib": 512,
        "started": 1000,
        "processes": processes,
        "cgroups": [],
    }))
    .unwrap()
}

#[test]
fn a_sandbox_whose_shim_is_gone_is_stale() {
    let row = row(state(serde_json::json!([])), 1090);
    assert_eq!(row.status, "stale");
    assert_eq!(row.age_seconds, 90);
    // A clock that went back.
    assert_eq!(super::row(state(serde_json::json!([])), 10).age_seconds, 0);
}

#[test]
fn the_table_is_aligned_and_has_no_trailing_blanks() {
    let mut row = row(state(serde_json::json!([])), 1090);
    row.processes =
        vec![Process { role: "shim".into(), pid: 7 }, Process { role: "io".into(), pid: 8 }];
    assert_eq!(
        text(&[row]),
        "NAMESPACE  ID   STATUS  ENGINE  VCPUS  MEMORY   AGE    PIDS\n\
         default    web  stale   qemu    2      512 MiB  1m30s  shim:7 io:8\n"
    );
    assert_eq!(text(&[]), "NAMESPACE  ID  STATUS  ENGINE  VCPUS  MEMORY  AGE  PIDS\n");
}
