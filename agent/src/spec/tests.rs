#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;

fn base() -> Value {
    json!({
        "ociVersion": "1.1.0",
        "process": {"user": {"uid": 5, "gid": 6}, "args": ["sh"], "cwd": "/", "env": ["A=1"]},
        "root": {"path": "/run/sandbox/share/c/rootfs"},
        "mounts": [],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]}
    })
}

fn prepared(spec: &Value) -> Result<Prepared, SpecError> {
    prepare("c", &serde_json::to_vec(spec).unwrap(), Wanted::default())
}

fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let mut spec = base();
    change(&mut spec);
    prepared(&spec).expect_err("was taken").to_string()
}

#[test]
fn what_is_no_spec_is_refused() {
    for json in [&b""[..], b"{", b"[]", b"null", b"\xff", b"{\"process\": 5}"] {
        assert!(prepare("c", json, Wanted::default()).is_err(), "{json:?}");
    }
    let deep = [b"{\"annotations\":".to_vec(), vec![b'['; 100_000]].concat();
    assert!(matches!(prepare("c", &deep, Wanted::default()), Err(SpecError::Json(_))));
    let long = vec![b' '; MAX_SPEC + 1];
    assert!(matches!(prepare("c", &long, Wanted::default()), Err(SpecError::TooLong(_))));
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
fn sysctls_of_the_network_are_the_guests() {
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
fn parts_of_the_host_are_refused_by_name() {
    type Change = fn(&mut Value);
    let changes: &[(&str, Change)] = &[
        ("hooks.createRuntime", |s| s["hooks"] = json!({"createRuntime": [{"path": "/host"}]})),
        ("hooks.poststop", |s| s["hooks"] = json!({"poststop": []})),
        ("process.apparmorProfile", |s| s["process"]["apparmorProfile"] = "p".into()),
        ("process.selinuxLabel", |s| s["process"]["selinuxLabel"] = "l".into()),
        ("linux.cgroupsPath", |s| s["linux"]["cgroupsPath"] = "a.slice:b:c".into()),
        ("linux.mountLabel", |s| s["linux"]["mountLabel"] = "l".into()),
        ("linux.intelRdt", |s| s["linux"]["intelRdt"] = json!({"closID": "x"})),
        ("a network namespace", |s| {
            s["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}]);
        }),
    ];
    for (name, change) in changes {
        let text = refusal(change);
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[test]
fn a_container_gets_a_cgroup_and_keeps_its_own_hooks() {
    let mut spec = base();
    spec["hooks"] = json!({"startContainer": [{"path": "/own"}]});
    let prepared = prepared(&spec).unwrap();
    let cgroups = |linux: &Linux| linux.cgroups_path().clone().unwrap();
    assert_eq!(cgroups(prepared.spec.linux().as_ref().unwrap()).to_str(), Some("/container-c"));
    assert_eq!(cgroups(&prepared.template.linux).to_str(), Some("/container-c"));
    let hooks = prepared.spec.hooks().clone().unwrap();
    assert_eq!(hooks.start_container().as_ref().map(Vec::len), Some(1));
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
    assert_eq!(error.to_string(), "not a directory");
}

fn template(first: &Value) -> ExecTemplate {
    let mut spec = base();
    spec["process"] = first.clone();
    prepared(&spec).unwrap().template
}

fn exec(process: &Value, first: &Value) -> Result<Process, SpecError> {
    prepare_exec(&template(first), &serde_json::to_vec(process).unwrap(), Wanted::default())
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
    let got = exec(&process, &first()).unwrap();
    assert_eq!((got.user().uid(), got.cwd().to_str()), (7, Some("/tmp")));
    assert_eq!(got.args().as_deref(), Some(&["ls".to_owned()][..]));
    assert_eq!(got.env().as_deref(), Some(&[HOME_OF_USER.to_owned()][..]), "no variables");
}

#[test]
fn what_an_exec_does_not_ask_for_is_as_the_container_has_it() {
    let bare = json!({"user": {"uid": 7, "gid": 8}, "args": ["ls"], "cwd": "/"});
    let got = exec(&bare, &first()).unwrap();
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
    let got = exec(&own, &first()).unwrap();
    let bounding = got.capabilities().as_ref().and_then(|all| all.bounding().clone());
    assert_eq!(bounding, Some(Default::default()));
    assert_eq!(got.rlimits().as_ref().map(Vec::len), Some(1));
    assert_eq!(got.oom_score_adj(), Some(0));
}

#[test]
fn execs_are_checked_as_first_processes_are() {
    let template = template(&base()["process"]);
    for json in [&b""[..], b"{", b"[]", b"null", b"\xff", b"{\"args\": 5}"] {
        assert!(prepare_exec(&template, json, Wanted::default()).is_err(), "{json:?}");
    }
    let long = vec![b' '; MAX_SPEC + 1];
    assert!(matches!(
        prepare_exec(&template, &long, Wanted::default()),
        Err(SpecError::TooLong(_))
    ));
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
