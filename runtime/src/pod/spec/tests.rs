#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;

fn read(spec: serde_json::Value) -> PodSpec {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), spec.to_string()).unwrap();
    PodSpec { bundle: PathBuf::new(), ..PodSpec::from_bundle(dir.path()).unwrap() }
}

#[test]
fn what_a_bundle_says_of_its_pod() {
    let spec = read(json!({
        "ociVersion": "1.1.0",
        "hostname": "h",
        "annotations": {"io.sandbox.vcpus": "2"},
        "linux": {
            "cgroupsPath": "/default/x",
            "resources": {"cpu": {"quota": 150000, "period": 100000}, "memory": {"limit": 1000}},
        },
    }));
    assert_eq!(
        spec,
        PodSpec {
            bundle: PathBuf::new(),
            hostname: "h".into(),
            annotations: [("io.sandbox.vcpus".to_owned(), "2".to_owned())].into(),
            cpus: Some(1.5),
            memory: Some(1000),
            cgroups_path: Some("/default/x".into()),
            ..PodSpec::default()
        }
    );
}

#[test]
fn no_limit_is_none() {
    let limits = json!({"cpu": {"quota": -1, "period": 0}, "memory": {"limit": -1}});
    let spec = read(json!({"ociVersion": "1.1.0", "linux": {"resources": limits}}));
    assert_eq!((spec.cpus, spec.memory), (None, None));
    assert_eq!(read(json!({"ociVersion": "1.1.0"})), PodSpec::default());
    assert_eq!(cpus(50_000, None), Some(0.5));
}
