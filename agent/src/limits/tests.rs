#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;

const GUEST: Guest = Guest { memory: 512 << 20, vcpus: 2 };

fn files(resources: serde_json::Value) -> Result<Vec<(String, String)>, LimitError> {
    of(resources.to_string().as_bytes(), &Cgroup::at("/nonexistent"), GUEST)
}

#[test]
fn each_limit_has_its_file() {
    let resources = json!({
        "cpu": {"shares": 1024, "quota": 150_000, "period": 100_000, "cpus": "0-1", "burst": 5},
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 128 << 20},
        "pids": {"limit": 33},
        "unified": {"memory.high": "1000000"},
        "blockIO": {"weight": 10}
    });
    let expected = [
        ("cpu.weight", "39"),
        ("cpu.max", "150000 100000"),
        ("cpu.max.burst", "5"),
        ("cpuset.cpus", "0-1"),
        ("memory.low", "33554432"),
        ("memory.max", "67108864"),
        ("pids.max", "33"),
        ("memory.high", "1000000"),
    ];
    let expected = expected.map(|(file, value)| (file.to_owned(), value.to_owned()));
    assert_eq!(files(resources).unwrap(), expected);
}

#[test]
fn what_is_below_zero_is_no_limit() {
    let resources = json!({"cpu": {"quota": -1}, "memory": {"limit": -1}, "pids": {"limit": -1}});
    let expected = [("cpu.max", "max 100000"), ("memory.max", "max"), ("pids.max", "max")];
    let expected = expected.map(|(file, value)| (file.to_owned(), value.to_owned()));
    assert_eq!(files(resources).unwrap(), expected);
    assert_eq!(files(json!({})).unwrap(), []);
}

#[test]
fn shares_become_weights_as_in_runc() {
    for (shares, expected) in [(2, 1), (1024, 39), (262_144, 10_000), (0, 1), (u64::MAX, 10_000)] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
}

#[test]
fn what_the_guest_does_not_have_is_refused() {
    let memory = files(json!({"memory": {"limit": (512 << 20) + 1}})).unwrap_err();
    assert_eq!(memory, LimitError::Memory { wanted: (512 << 20) + 1, memory: 512 << 20 });
    let cpu = files(json!({"cpu": {"quota": 200_001}})).unwrap_err();
    assert_eq!(cpu, LimitError::Cpu { quota: 200_001, period: 100_000, vcpus: 2 });
    files(json!({"cpu": {"quota": 200_000}})).unwrap();
}

#[test]
fn what_is_no_resources_is_refused() {
    let long = vec![b' '; MAX_RESOURCES + 1];
    let cgroup = Cgroup::at("/nonexistent");
    assert_eq!(of(&long, &cgroup, GUEST), Err(LimitError::TooLong(MAX_RESOURCES + 1)));
    assert!(matches!(of(b"[7", &cgroup, GUEST), Err(LimitError::Json(_))));
    for key in ["../memory.max", "cgroup.procs", "tasks"] {
        let refused = files(json!({"unified": {key: "1"}}));
        assert_eq!(refused, Err(LimitError::Unified(key.to_owned())));
    }
}
