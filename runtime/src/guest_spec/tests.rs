#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rustix::mount::MountFlags;
use serde_json::{Value, json};

use super::*;

/// The least spec, with `over` laid over it.
fn spec(over: Value) -> Spec {
    let mut base = json!({
        "ociVersion": "1.1.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
        "linux": {},
    });
    merge(&mut base, over);
    serde_json::from_value(base).unwrap()
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

fn translated(over: Value) -> (Value, Vec<HostBind>) {
    let guest = translate(spec(over), "c1", None).unwrap();
    (serde_json::from_slice(&guest.json).unwrap(), guest.binds)
}

fn refused(over: Value) -> String {
    translate(spec(over), "c1", None).unwrap_err().to_string()
}

#[test]
fn each_part_comes_out_as_the_guest_needs_it() {
    let table = [
        (
            "/root/path",
            json!({"root": {"path": "/host/x", "readonly": true}}),
            json!("/run/sandbox/share/c1/rootfs"),
        ),
        ("/root/readonly", json!({"root": {"readonly": true}}), json!(true)),
        ("/hooks", json!({"hooks": {"prestart": [{"path": "/bin/x"}]}}), Value::Null),
        ("/hooks", json!({"hooks": {"startContainer": []}}), Value::Null),
        (
            "/hooks",
            json!({"hooks": {
                "createContainer": [{"path": "/bin/x"}],
                "startContainer": [{"path": "/bin/y"}, {"path": "/bin/z", "timeout": 3}],
            }}),
            json!({"startContainer": [
                {"path": "/bin/y", "timeout": 120}, {"path": "/bin/z", "timeout": 3},
            ]}),
        ),
        ("/annotations", json!({"annotations": {"a": "b"}}), Value::Null),
        ("/process/apparmorProfile", json!({"process": {"apparmorProfile": "p"}}), Value::Null),
        ("/process/selinuxLabel", json!({"process": {"selinuxLabel": "l"}}), Value::Null),
        (
            "/process/args",
            json!({"process": {"args": ["a b", "", "\n"]}}),
            json!(["a b", "", "\n"]),
        ),
        ("/linux/mountLabel", json!({"linux": {"mountLabel": "l"}}), Value::Null),
        ("/linux/cgroupsPath", json!({"linux": {"cgroupsPath": "/default/x"}}), Value::Null),
        (
            "/linux/seccomp/defaultAction",
            json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}}),
            json!("SCMP_ACT_ALLOW"),
        ),
        (
            "/linux/namespaces",
            json!({"linux": {"namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "network", "path": "/n"},
                {"type": "ipc", "path": "/proc/1/ns/ipc"}, {"type": "mount"}]}}),
            json!([{"type": "pid"}, {"type": "mount"}]),
        ),
        (
            "/linux/resources/memory/limit",
            json!({"linux": {"resources": {"memory": {"limit": 1000}}}}),
            json!(1000),
        ),
        (
            "/linux/resources/memory",
            json!({"linux": {"resources": {"memory": {"limit": 7, "swap": 7}}}}),
            json!({"limit": 7}),
        ),
        (
            "/linux/resources/hugepageLimits",
            json!({"linux": {"resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}}}),
            Value::Null,
        ),
        (
            "/linux/rootfsPropagation",
            json!({"linux": {"rootfsPropagation": "rshared"}}),
            json!("shared"),
        ),
        (
            "/linux/resources/cpu",
            json!({"linux": {"resources": {"cpu": {"quota": 5, "cpus": "3", "mems": "1"}}}}),
            json!({"quota": 5}),
        ),
        (
            "/linux/resources/blockIO",
            json!({"linux": {"resources": {"blockIO": {"weight": 10}}}}),
            Value::Null,
        ),
        (
            "/linux/devices",
            json!({"linux": {"devices": [
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]}}),
            json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]),
        ),
    ];
    for (pointer, over, expected) in table {
        let (guest, _) = translated(over.clone());
        assert_eq!(guest.pointer(pointer).unwrap_or(&Value::Null), &expected, "{over}");
    }
}

#[test]
fn a_spec_without_its_parts_is_refused() {
    for (part, name) in [("root", "root"), ("process", "process"), ("linux", "linux section")] {
        assert_eq!(refused(json!({part: null})), format!("the container's spec has no {name}"));
    }
}

#[test]
fn mounts_of_the_kernel_stay() {
    let mounts = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["size=65536k"]},
        {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]},
        {"destination": "/x", "type": "bind", "source": "/dev/null", "options": ["bind"]},
    ]);
    let linux = json!({"namespaces": [{"type": "ipc"}]});
    let (guest, binds) = translated(json!({"mounts": mounts, "linux": linux}));
    assert_eq!(guest["mounts"], mounts);
    assert!(binds.is_empty());
}

#[test]
fn mounts_of_the_host_go_through_the_share() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    std::os::unix::fs::symlink(&file, dir.path().join("link")).unwrap();
    let (guest, binds) = translated(json!({"mounts": [
        {"destination": "/d", "type": "bind", "source": dir.path(), "options": ["rbind", "ro"]},
        {"destination": "/f", "source": dir.path().join("link"), "options": ["bind", "rslave"]},
    ]}));
    assert_eq!(guest["mounts"][0]["source"], "/run/sandbox/share/c1/mounts/0");
    assert_eq!(guest["mounts"][0]["options"], json!(["rbind", "ro"]));
    assert_eq!(guest["mounts"][1]["source"], "/run/sandbox/share/c1/mounts/1");
    assert_eq!(binds[0].source, dir.path().canonicalize().unwrap());
    assert_eq!(binds[0].options.flags, MountFlags::RDONLY);
    assert_eq!(binds[0].options.bind, Some(true));
    assert_eq!(binds[1].source, file.canonicalize().unwrap());
    assert!(binds[1].options.propagation.is_some());
}

#[test]
fn shared_memory_of_the_host_becomes_the_guests() {
    let dir = tempfile::tempdir().unwrap();
    let linux = json!({"namespaces": [{"type": "ipc"}]});
    let (guest, binds) = translated(json!({"linux": linux, "mounts": [
        {"destination": "/dev/shm", "type": "bind", "source": dir.path(), "options": ["rbind"]},
    ]}));
    assert!(binds.is_empty());
    assert_eq!(guest["mounts"][0]["type"], "tmpfs");
    assert!(guest["mounts"][0]["options"][4].as_str().unwrap().starts_with("size="));
}

#[test]
fn who_shares_ipc_shares_memory() {
    let shm = json!([{"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}]);
    let of = |namespaces: serde_json::Value| {
        let linux = json!({"namespaces": namespaces});
        translated(json!({"mounts": shm, "linux": linux})).0["mounts"][0]["type"].clone()
    };
    assert_eq!(of(json!([{"type": "ipc"}])), "tmpfs");
    assert_eq!(of(json!([{"type": "pid"}])), "bind");
    assert_eq!(of(json!([{"type": "ipc", "path": "/proc/7/ns/ipc"}])), "bind");
}

#[test]
fn a_spec_for_cgroup_v1_gets_a_cgroup_namespace() {
    let namespaces = |typ: &str| {
        let mount = json!({"destination": "/sys/fs/cgroup", "type": typ, "source": typ});
        let linux = json!({"namespaces": [{"type": "pid"}]});
        let (guest, _) = translated(json!({"mounts": [mount], "linux": linux}));
        guest["linux"]["namespaces"].clone()
    };
    assert_eq!(namespaces("cgroup"), json!([{"type": "pid"}, {"type": "cgroup"}]));
    // On cgroup v2 a spec without the namespace means all of it.
    assert_eq!(namespaces("cgroup2"), json!([{"type": "pid"}]));
}

#[test]
fn a_sysfs_in_a_user_namespace_is_the_guests() {
    let mounts = json!([
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
    ]);
    let of = |namespaces: Value| {
        let linux = json!({"namespaces": namespaces});
        translated(json!({"mounts": mounts, "linux": linux})).0["mounts"].clone()
    };
    assert_eq!(of(json!([{"type": "pid"}])), mounts);
    let bound = json!([
        {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["ro", "rbind"]},
    ]);
    assert_eq!(of(json!([{"type": "user"}])), bound);
}

#[test]
fn the_process_of_an_exec_loses_its_labels() {
    let given = json!({"cwd": "/", "args": ["a"], "user": {"uid": 1, "gid": 2},
        "apparmorProfile": "p", "selinuxLabel": "l"});
    let process = translate_process(&serde_json::to_vec(&given).unwrap()).unwrap();
    let process: Value = serde_json::from_slice(&process).unwrap();
    assert_eq!((&process["args"], &process["user"]["gid"]), (&json!(["a"]), &json!(2)));
    assert!(process.get("apparmorProfile").is_none() && process.get("selinuxLabel").is_none());
    assert!(translate_process(b"{\"args\": 5}").is_err());
}

#[test]
fn sources_that_cannot_be_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let bind = |source: &Path| {
        refused(json!({"mounts": [
            {"destination": "/d", "type": "bind", "source": source, "options": ["bind"]},
        ]}))
    };
    let missing = dir.path().join("missing");
    let text = bind(&missing);
    assert!(text.contains(missing.to_str().unwrap()) && text.contains("on /d"), "{text}");
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(bind(&socket).contains("is a socket of the host"));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(bind(&fifo).contains("is a FIFO of the host"));
}

#[test]
fn devices_of_the_host_are_refused_or_left_out() {
    let disk = json!({"path": "/dev/sda", "type": "b", "major": 8, "minor": 0});
    let text = refused(json!({"linux": {"devices": [disk]}}));
    assert!(text.contains("/dev/sda (8:0)"), "{text}");
    let (guest, _) = translated(json!({"linux": {
        "devices": [disk],
        "resources": {"devices": [{"allow": true, "access": "rwm"}]},
    }}));
    assert_eq!(guest["linux"]["devices"], json!([]));
}

#[test]
fn a_container_without_a_resolv_conf_gets_one_that_it_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
    let with = |over: Value| {
        let guest = translate(spec(over), "c1", Some(&file)).unwrap();
        (serde_json::from_slice::<Value>(&guest.json).unwrap(), guest.binds)
    };
    let (guest, binds) = with(json!({}));
    assert_eq!(guest["mounts"][0]["destination"], "/etc/resolv.conf");
    assert_eq!(guest["mounts"][0]["source"], "/run/sandbox/share/c1/mounts/0");
    assert_eq!(binds[0].source, file.canonicalize().unwrap());
    assert!(binds[0].options.flags.contains(MountFlags::RDONLY));
    let own = dir.path().join("own");
    std::fs::write(&own, "").unwrap();
    let (guest, binds) = with(json!({"mounts": [
        {"destination": "/etc/resolv.conf", "type": "bind", "source": own, "options": ["bind"]},
    ]}));
    assert_eq!(guest["mounts"].as_array().unwrap().len(), 1);
    assert_eq!(binds[0].source, own.canonicalize().unwrap());
}
