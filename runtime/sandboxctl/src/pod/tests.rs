#![allow(clippy::unwrap_used)]

use std::fs;

use sandbox_runtime::ProcessId;
use serde_json::json;

use super::*;

/// A state as a shim leaves it; this process is the shim of one that runs.
pub fn state(namespace: &str, id: &str, runs: bool) -> serde_json::Value {
    let shim = ProcessId::of(std::process::id()).unwrap();
    let start = if runs { shim.start_time } else { shim.start_time + 1 };
    json!({
        "version": 1, "namespace": namespace, "id": id, "bundle": "/b", "engine": "qemu",
        "engine_reason": "", "vcpus": 1, "memory_mib": 128, "started": 1000, "cgroups": [],
        "processes": [{"role": "shim", "pid": shim.pid, "start_time": start}],
    })
}

fn states(pods: &[(&str, &str, bool)]) -> Vec<State> {
    let read = |(namespace, id, runs): &(&str, &str, bool)| {
        serde_json::from_value(state(namespace, id, *runs)).unwrap()
    };
    pods.iter().map(read).collect()
}

fn chosen(asked: &str) -> Result<String, String> {
    let all = states(&[
        ("default", "web", true),
        ("default", "web-2", true),
        ("k8s.io", "web", true),
        ("k8s.io", "c0ffee00", false),
    ]);
    choose(&all, asked).map(name).map_err(|error| error.to_string())
}

#[test]
fn a_pod_is_named_by_id_or_namespace_and_id() {
    assert_eq!(chosen("default/web"), Ok("default/web".into()));
    assert_eq!(chosen("web-2"), Ok("default/web-2".into()));
    assert_eq!(chosen("c0ff"), Ok("k8s.io/c0ffee00".into()));
    assert_eq!(
        chosen("default/we"),
        Err("default/we may be default/web, default/web-2: write one of them".into())
    );
    assert_eq!(chosen("web"), Err("web may be default/web, k8s.io/web: write one of them".into()));
}

#[test]
fn who_asks_for_none_learns_what_runs() {
    for asked in ["db", "", "default/", "/", "other/web", "a/b/c", "\x1b[2J"] {
        let error = chosen(asked).unwrap_err();
        let names = "these run: default/web, default/web-2, k8s.io/web";
        assert_eq!(error, format!("there is no sandbox {}; {names}", plain(asked)));
    }
    let error = |states: &[State]| choose(states, "x").unwrap_err().to_string();
    assert_eq!(error(&[]), "there is no sandbox x; none runs");
    assert_eq!(error(&states(&[("a", "b", true)])), "there is no sandbox x; a/b runs");
    let many: Vec<String> = (0..30).map(|n| format!("p{n}")).collect();
    let many: Vec<_> = many.iter().map(|id| ("a", id.as_str(), true)).collect();
    assert!(error(&states(&many)).ends_with("a/p19 and 10 more"));
}

#[test]
fn one_whose_shim_is_gone_is_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { state_dir: dir.path().to_owned(), ..Config::default() };
    for (directory, id, runs) in [("1", "here", true), ("2", "gone", false)] {
        fs::create_dir(dir.path().join(directory)).unwrap();
        let text = state("default", id, runs).to_string();
        fs::write(dir.path().join(directory).join("state.json"), text).unwrap();
    }
    assert_eq!(find(&config, "here").unwrap(), PodId::new("default", "here").unwrap());
    let error = find(&config, "gone").unwrap_err();
    assert_eq!(error.to_string(), "sandbox default/gone runs no more: its shim is gone");
}
