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
    assert_eq!(PodSpec::cpus_of(50_000, None), Some(0.5));
}

#[test]
fn the_network_that_a_spec_asks_for() {
    let of = |namespaces: serde_json::Value| {
        read(json!({"ociVersion": "1.1.0", "linux": {"namespaces": namespaces}})).network
    };
    assert_eq!(of(json!([{"type": "pid"}])), NetworkNamespace::Host);
    assert_eq!(of(json!([{"type": "network"}])), NetworkNamespace::New);
    assert_eq!(of(json!([{"type": "network", "path": ""}])), NetworkNamespace::New);
    let path = of(json!([{"type": "network", "path": "/run/netns/x"}]));
    assert_eq!(path, NetworkNamespace::Path("/run/netns/x".into()));
}

#[test]
fn hooks_and_servers_of_a_spec() {
    let spec = |more: serde_json::Value| {
        let mut spec = json!({"ociVersion": "1.1.0"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read(spec)
    };
    let hook = json!([{"path": "/bin/true"}]);
    assert!(spec(json!({"hooks": {"prestart": hook}})).has_create_hooks);
    assert!(spec(json!({"hooks": {"createRuntime": hook}})).has_create_hooks);
    // These set up no namespace.
    assert!(!spec(json!({"hooks": {"startContainer": hook, "poststop": hook}})).has_create_hooks);
    let mounts = json!({"mounts": [
        {"destination": "/etc/hosts", "type": "bind", "source": "/h"},
        {"destination": "/etc/resolv.conf", "type": "bind", "source": "/r"},
    ]});
    assert_eq!(spec(mounts).resolv_conf, Some("/r".into()));
}
