#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;

const FEATURES: Features = Features { hugetlb: false };

fn base() -> Value {
    json!({
        "ociVersion": "1.1.0",
        "process": {"user": {"uid": 5, "gid": 6}, "args": ["sh"], "cwd": "/", "env": ["A=1"]},
        "root": {"path": "/run/sandbox/share/c/rootfs"},
        "mounts": [],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/x"}, {"type": "mount"}]}
    })
}

fn prepared(spec: &Value) -> Result<Prepared, SpecError> {
    prepare("c", &serde_json::to_vec(spec).unwrap(), Wanted::default(), FEATURES)
}

fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let mut spec = base();
    change(&mut spec);
    prepared(&spec).expect_err("was taken").to_string()
}

fn linux(change: impl FnOnce(&mut Value)) -> oci_spec::runtime::Linux {
    let mut spec = base();
    change(&mut spec["linux"]);
    prepared(&spec).unwrap().spec.linux().clone().unwrap()
}

#[test]
fn what_is_no_spec_is_refused() {
    for json in [&b""[..], b"{", b"[]", b"null", b"\xff", b"{\"process\": 5}"] {
        assert!(prepare("c", json, Wanted::default(), FEATURES).is_err(), "{json:?}");
    }
    let deep = [b"{\"annotations\":".to_vec(), vec![b'['; 100_000]].concat();
    assert!(matches!(prepare("c", &deep, Wanted::default(), FEATURES), Err(SpecError::Json(_))));
    let long = vec![b' '; MAX_SPEC + 1];
    assert!(matches!(prepare("c", &long, Wanted::default(), FEATURES), Err(SpecError::TooLong(_))));
}

#[test]
fn missing_parts_are_named() {
    for (part, name) in [("process", "process"), ("root", "root"), ("linux", "linux")] {
        let text = refusal(|spec| drop(spec.as_object_mut().unwrap().remove(part)));
        assert_eq!(text, format!("the OCI spec has no {name}"));
    }
}

#[test]
fn paths_stay_in_the_share() {
    for path in [
        "/",
        "/run/sandbox/share",
        "/run/sandbox/share/",
        "/run/sandbox/shared/x",
        "rootfs",
        "/run/sandbox/share/../c",
        "/run/sandbox/share/c/../../x",
        "/run/sandbox/share/a\0b",
    ] {
        let text = refusal(|spec| spec["root"]["path"] = path.into());
        assert!(text.contains("root.path"), "{path}: {text}");
        for bind in [json!({"type": "bind"}), json!({"options": ["rbind"]})] {
            let mut mount = bind;
            mount["destination"] = "/x".into();
            mount["source"] = path.into();
            let text = refusal(|spec| spec["mounts"] = json!([mount]));
            assert!(text.contains("\"/x\""), "{path}: {text}");
        }
    }
}

#[test]
fn what_the_kernel_shows_may_be_bound() {
    let bind = |from: &str| json!([{"destination": "/x", "type": "bind", "source": from}]);
    for from in ["/dev/shm", "/sys", "/proc/sys"] {
        let mut spec = base();
        spec["mounts"] = bind(from);
        assert!(prepared(&spec).is_ok(), "{from}");
    }
    for from in ["/devices", "/dev/../etc", "/sysx"] {
        assert!(refusal(|spec| spec["mounts"] = bind(from)).contains("/x"), "{from}");
    }
}

#[test]
fn mounts_without_sense_are_refused() {
    let text = refusal(|spec| spec["mounts"] = json!([{"destination": "x", "type": "proc"}]));
    assert!(text.contains("absolute"), "{text}");
    let text = refusal(|spec| spec["mounts"] = json!([{"destination": "/x", "type": "bind"}]));
    assert!(text.contains("without a source"), "{text}");
}

#[test]
fn processes_without_sense_are_refused() {
    assert!(refusal(|s| s["process"]["args"] = json!([])).contains("process.args"));
    assert!(refusal(|s| s["process"]["env"] = json!(["a\0"])).contains("process.env"));
    assert!(refusal(|s| s["process"]["cwd"] = "x".into()).contains("process.cwd"));
    assert!(refusal(|s| s["process"]["user"]["umask"] = 0o1000.into()).contains("umask"));
    assert!(refusal(|s| s["hostname"] = "x".repeat(65).into()).contains("hostname"));
}

#[test]
fn what_only_the_host_can_do_is_refused_by_name() {
    let text = refusal(|s| s["hooks"] = json!({"createContainer": [{"path": "/x"}]}));
    assert!(text.contains("hooks.createContainer"), "{text}");
    let notify = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    assert!(refusal(|s| s["linux"]["seccomp"] = notify).contains("SCMP_ACT_NOTIFY"));
    let joined = json!([{"type": "mount"}, {"type": "ipc", "path": "/proc/1/ns/ipc"}]);
    assert!(refusal(|s| s["linux"]["namespaces"] = joined).contains("ipc"));
    let twice = json!([{"type": "mount"}, {"type": "mount"}]);
    assert!(refusal(|s| s["linux"]["namespaces"] = twice).contains("twice"));
    assert!(refusal(|s| s["linux"]["sysctl"] = json!({"net./../x": "1"})).contains("sysctl"));
}

#[test]
fn the_network_is_the_guests() {
    let namespaces = linux(|_| {}).namespaces().clone().unwrap();
    let types: Vec<_> = namespaces.iter().map(|n| n.typ().to_string()).collect();
    assert_eq!(types, ["pid", "mnt"]);
    let mut spec = base();
    spec["linux"]["sysctl"] = json!({"net.core.somaxconn": "9", "kernel.domainname": "d"});
    let prepared = prepared(&spec).unwrap();
    assert_eq!(prepared.guest_sysctls, [("net.core.somaxconn".to_owned(), "9".to_owned())]);
    let left = prepared.spec.linux().clone().unwrap().sysctl().clone().unwrap();
    assert_eq!(left.keys().collect::<Vec<_>>(), ["kernel.domainname"]);
}

#[test]
fn sysctls_of_a_shared_ipc_are_the_guests() {
    let of_guest = |namespaces: Value| {
        let mut spec = base();
        spec["linux"]["namespaces"] = namespaces;
        spec["linux"]["sysctl"] = json!({"kernel.msgmax": "4"});
        prepared(&spec).unwrap().guest_sysctls.len()
    };
    assert_eq!(of_guest(json!([{"type": "pid"}, {"type": "mount"}])), 1);
    assert_eq!(of_guest(json!([{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}])), 0);
}

#[test]
fn a_spec_for_cgroup_v1_shows_the_containers_own_cgroup() {
    let types = |mount: Value| {
        let mut spec = base();
        spec["mounts"] = json!([mount]);
        let linux = prepared(&spec).unwrap().spec.linux().clone().unwrap();
        let namespaces = linux.namespaces().clone().unwrap();
        namespaces.iter().map(|n| n.typ().to_string()).collect::<Vec<_>>()
    };
    let mount = |typ: &str| json!({"destination": "/sys/fs/cgroup", "type": typ, "source": typ});
    assert_eq!(types(mount("cgroup")), ["pid", "mnt", "cgroup"]);
    // On cgroup v2 a spec without the namespace means all of it.
    assert_eq!(types(mount("cgroup2")), ["pid", "mnt"]);
}

#[test]
fn host_labels_and_hooks_go() {
    let mut spec = base();
    spec["hooks"] = json!({"createRuntime": [{"path": "/host"}]});
    spec["process"]["apparmorProfile"] = "p".into();
    spec["linux"]["cgroupsPath"] = "a.slice:b:c".into();
    spec["linux"]["rootfsPropagation"] = "rshared".into();
    let spec = prepared(&spec).unwrap().spec;
    assert!(spec.hooks().is_none());
    assert!(spec.process().as_ref().unwrap().apparmor_profile().is_none());
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.cgroups_path().as_ref().unwrap().to_str(), Some("/container-c"));
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("shared"));
}

#[test]
fn limits_that_no_guest_has_go() {
    let resources =
        |json: Value| linux(|linux| linux["resources"] = json.clone()).resources().clone().unwrap();
    let memory = resources(json!({"memory": {"limit": 7, "swap": 7}})).memory().unwrap();
    assert_eq!((memory.limit(), memory.swap()), (Some(7), None));
    let none = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]});
    assert!(resources(none).hugepage_limits().is_none());
    let some = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 5}]});
    assert_eq!(resources(some).hugepage_limits().as_ref().map(Vec::len), Some(1));
}

#[test]
fn home_is_left_to_the_container_unless_given() {
    let env = |env: Value| {
        let mut spec = base();
        spec["process"]["env"] = env;
        let spec = prepared(&spec).unwrap().spec;
        spec.process().as_ref().unwrap().env().clone().unwrap()
    };
    assert_eq!(env(json!(["HOME=/h"])), ["HOME=/h"]);
    assert_eq!(env(json!(["A=1"])), ["A=1", HOME_OF_USER]);
    assert_eq!(env(json!(["HOME=/h", "HOME="])), ["HOME=/h", "HOME=", HOME_OF_USER]);
    assert_eq!(env(Value::Null), [HOME_OF_USER]);
}

#[test]
fn pipes_belong_to_the_user_as_the_guest_numbers_it() {
    assert_eq!(prepared(&base()).unwrap().uid, 5);
    let mut spec = base();
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    assert_eq!(prepared(&spec).unwrap().uid, 1005);
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": u32::MAX, "size": 10}]);
    assert_eq!(prepared(&spec).unwrap().uid, 5);
}

#[test]
fn the_working_directory_is_made_where_the_container_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let bound = folder.path().join("bound");
    for dir in [&root, &bound, &root.join("etc")] {
        std::fs::create_dir(dir).unwrap();
    }
    std::os::unix::fs::symlink("/etc", root.join("inside")).unwrap();
    std::os::unix::fs::symlink("../../..", root.join("outside")).unwrap();
    std::fs::write(root.join("file"), "").unwrap();
    let made = |cwd: &str| {
        let mut spec = base();
        spec["root"]["path"] = root.to_str().unwrap().into();
        spec["process"]["cwd"] = cwd.into();
        spec["mounts"] = json!([
            {"destination": "/data", "type": "bind", "source": bound.to_str().unwrap()},
            {"destination": "/data/tmp/", "type": "tmpfs"}
        ]);
        make_cwd(&serde_json::from_value(spec).unwrap())
    };
    for (cwd, dir) in [
        ("/a/b", root.join("a/b")),
        ("/inside/x", root.join("etc/x")),
        ("/outside/y", root.join("y")),
        ("/../../z", root.join("z")),
        ("/data/deep/er", bound.join("deep/er")),
    ] {
        made(cwd).unwrap();
        assert!(dir.is_dir(), "{cwd} did not make {dir:?}");
    }
    made("/data/tmp/later").unwrap();
    assert!(!bound.join("tmp").exists());
    assert!(made("/file").is_err());
}

#[test]
fn the_images_dev_is_cleared_unless_mounted_over() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("dev/fd")).unwrap();
    std::fs::write(root.join("dev/null"), "").unwrap();
    std::fs::write(root.join("dev/mine"), "").unwrap();
    let clear = |mounts: Value| {
        let mut spec = base();
        spec["root"]["path"] = root.to_str().unwrap().into();
        spec["mounts"] = mounts;
        clear_dev(&serde_json::from_value(spec).unwrap())
    };
    clear(json!([{"destination": "/dev/", "type": "tmpfs"}])).unwrap();
    assert!(root.join("dev/null").exists());
    clear(json!([])).unwrap();
    assert!(!root.join("dev/null").exists() && root.join("dev/mine").exists());
    std::fs::remove_dir_all(root.join("dev")).unwrap();
    clear(json!([])).unwrap();
    std::os::unix::fs::symlink("/run", root.join("dev")).unwrap();
    let error = clear(json!([{"destination": "/dev", "type": "tmpfs"}])).unwrap_err();
    assert_eq!(error.to_string(), "it is not a folder");
}

fn exec(process: &Value, first: &Value) -> Result<Prepared, SpecError> {
    let mut spec = base();
    spec["process"] = first.clone();
    let of_container = prepared(&spec).unwrap().spec;
    prepare_exec(of_container, &serde_json::to_vec(process).unwrap(), Wanted::default())
}

/// A container's first process with everything that others take from it.
fn first() -> Value {
    let mut first = base()["process"].clone();
    first["capabilities"] = json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    first["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]);
    first["oomScoreAdj"] = json!(7);
    first["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    first["scheduler"] = json!({"policy": "SCHED_BATCH"});
    first["execCPUAffinity"] = json!({"final": "0"});
    first
}

#[test]
fn an_exec_takes_the_place_of_the_first_process() {
    let process = json!({"user": {"uid": 7, "gid": 8}, "args": ["ls"], "cwd": "/tmp"});
    let prepared = exec(&process, &first()).unwrap();
    let got = prepared.spec.process().clone().unwrap();
    assert_eq!((got.user().uid(), got.cwd().to_str()), (7, Some("/tmp")));
    assert_eq!(got.args().as_deref(), Some(&["ls".to_owned()][..]));
    assert_eq!(got.env().as_deref(), Some(&[HOME_OF_USER.to_owned()][..]), "no variables");
    assert_eq!(prepared.uid, 7);
    assert_eq!(
        prepared.spec.linux().as_ref().unwrap().cgroups_path().as_deref().unwrap().to_str(),
        Some("/container-c")
    );
}

#[test]
fn what_an_exec_does_not_ask_for_is_as_the_container_has_it() {
    let bare = json!({"user": {"uid": 7, "gid": 8}, "args": ["ls"], "cwd": "/"});
    let got = exec(&bare, &first()).unwrap().spec.process().clone().unwrap();
    let of_first: Process = serde_json::from_value(first()).unwrap();
    assert_eq!(got.capabilities(), of_first.capabilities());
    assert!(got.capabilities().is_some());
    assert_eq!(got.rlimits(), of_first.rlimits());
    assert_eq!(got.oom_score_adj(), Some(7));
    assert_eq!(got.io_priority(), of_first.io_priority());
    assert_eq!(got.scheduler(), of_first.scheduler());
    assert_eq!(got.exec_cpu_affinity(), of_first.exec_cpu_affinity());

    let mut own = bare;
    own["capabilities"] = json!({"bounding": []});
    own["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    own["oomScoreAdj"] = json!(0);
    let got = exec(&own, &first()).unwrap().spec.process().clone().unwrap();
    let bounding = got.capabilities().as_ref().and_then(|all| all.bounding().clone());
    assert_eq!(bounding, Some(Default::default()));
    assert_eq!(got.rlimits().as_ref().map(Vec::len), Some(1));
    assert_eq!(got.oom_score_adj(), Some(0));
}

#[test]
fn execs_are_checked_as_first_processes_are() {
    for json in [&b""[..], b"{", b"[]", b"null", b"\xff", b"{\"args\": 5}"] {
        let spec = prepared(&base()).unwrap().spec;
        assert!(prepare_exec(spec, json, Wanted::default()).is_err(), "{json:?}");
    }
    let long = vec![b' '; MAX_SPEC + 1];
    let spec = prepared(&base()).unwrap().spec;
    assert!(matches!(prepare_exec(spec, &long, Wanted::default()), Err(SpecError::TooLong(_))));
    for (field, value) in [
        ("args", json!([])),
        ("args", json!(["a\0b"])),
        ("env", json!(["A=\0"])),
        ("cwd", json!("relative")),
        ("user", json!({"uid": 0, "gid": 0, "umask": 0o1000})),
    ] {
        let mut process = base()["process"].clone();
        process[field] = value;
        assert!(exec(&process, &base()["process"]).is_err(), "{field}");
    }
}
