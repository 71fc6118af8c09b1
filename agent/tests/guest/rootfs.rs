//! What a container sees and may do: everything that the spec says.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox_agent_protocol::SHARE_DIR;
use serde_json::{Value, json};

use crate::protocol::code;
use crate::vm::{Outcome, Vm, spec, stdio};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case!(rootfs::environment_and_arguments),
    case!(rootfs::user_and_groups),
    case!(rootfs::working_directory),
    case!(rootfs::names),
    case!(rootfs::read_only_root),
    case!(rootfs::bind_mounts),
    case!(rootfs::limits),
    case!(rootfs::default_limits),
    case!(rootfs::out_of_memory),
    case!(rootfs::too_many_processes),
    case!(rootfs::capabilities),
    case!(rootfs::seccomp),
    case!(rootfs::masked_and_read_only_paths),
    case!(rootfs::sysctls),
    case!(rootfs::devices),
    case!(rootfs::network),
    case!(rootfs::specs_from_clusters),
    case!(rootfs::refused_specs),
    case!(rootfs::isolated_from_the_guest),
];

async fn sh(vm: &Vm, id: &str, script: &str, change: impl FnOnce(&mut Value)) -> Outcome {
    if !vm.dir.join("share").join(id).exists() {
        vm.rootfs(id);
    }
    let mut spec = spec(id, &["sh", "-c", script]);
    change(&mut spec);
    vm.run(id, &spec).await
}

fn mount(spec: &mut Value, destination: &str, typ: &str, source: &str, options: &[&str]) {
    spec["mounts"].as_array_mut().unwrap().push(json!({
        "destination": destination, "type": typ, "source": source, "options": options
    }));
}

pub async fn environment_and_arguments(vm: &Vm) {
    vm.rootfs("env");
    let long = "x".repeat(100_000);
    let mut spec1 = spec(
        "env",
        &[
            "sh",
            "-c",
            "printf '%s|' \"$@\" | head -c 39; echo; printf %s \"$5\" | wc -c",
            "sh",
            "a b",
            "\"q\"",
            "",
            "n\nl",
            &long,
        ],
    );
    let env = spec1["process"]["env"].as_array_mut().unwrap();
    for n in 0..1200 {
        env.push(format!("V{n}=a={n}").into());
    }
    for odd in ["EMPTY=", "=odd", "bare", "TWICE=1", "TWICE=2", "LD_PRELOAD=/x.so"] {
        env.push(odd.into());
    }
    let outcome = vm.run("env", &spec1).await;
    assert_eq!(
        outcome.text(),
        "a b|\"q\"||n\nl|xxxxxxxxxxxxxxxxxxxxxxxxxx\n100000",
        "{}",
        outcome.errors()
    );
    spec1["process"]["args"] = json!(["env"]);
    let text = vm.run("env", &spec1).await.text();
    for line in ["V0=a=0", "V1199=a=1199", "EMPTY=", "TWICE=2", "HOME=/root", "LD_PRELOAD=/x.so"] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
    assert!(!text.contains("TWICE=1") && !text.contains("sandbox-agent"));
}

pub async fn user_and_groups(vm: &Vm) {
    let script = "id -u; id -g; id -G; umask; echo $HOME; touch /tmp/x && stat -c %u:%g:%a /tmp/x; \
                  echo hi > /dev/stdout";
    let outcome = sh(vm, "user", script, |spec| {
        spec["process"]["user"] =
            json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 7], "umask": 0o077});
    })
    .await;
    let expected = "1000\n1000\n1000 5 7\n0077\n/home/u\n1000:1000:600\nhi";
    assert_eq!(outcome.text(), expected, "{}", outcome.errors());
    let unknown = sh(vm, "user", "id -u; umask; echo $HOME", |spec| {
        spec["process"]["user"] = json!({"uid": 4242, "gid": 0});
    })
    .await;
    assert_eq!(unknown.text(), "4242\n0022\n/", "{}", unknown.errors());
}

pub async fn working_directory(vm: &Vm) {
    let cwd = |dir: &'static str| move |spec: &mut Value| spec["process"]["cwd"] = dir.into();
    assert_eq!(sh(vm, "cwd", "pwd", cwd("/home/u")).await.text(), "/home/u");
    // runc makes it.
    assert_eq!(sh(vm, "cwd", "pwd", cwd("/made/for/me")).await.text(), "/made/for/me");
    let root = vm.dir.join("share/cwd/rootfs");
    std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
    std::os::unix::fs::symlink("../../../../tmp", root.join("out")).unwrap();
    assert_eq!(sh(vm, "cwd", "pwd -P", cwd("/link/deep")).await.text(), "/etc/deep");
    assert_eq!(sh(vm, "cwd", "pwd -P", cwd("/out/x")).await.text(), "/tmp/x");
    assert!(root.join("etc/deep").is_dir() && root.join("tmp/x").is_dir());
    let mut bad = spec("cwd", &["true"]);
    bad["process"]["cwd"] = "/etc/passwd".into();
    let (_, text) = code(&vm.create("cwd", &bad, stdio(false, false, false)).await.unwrap_err());
    assert!(text.contains("/etc/passwd") && text.contains("ot a directory"), "{text}");
}

pub async fn names(vm: &Vm) {
    let outcome = sh(vm, "names", "hostname; cat /proc/sys/kernel/domainname", |spec| {
        spec["hostname"] = "my-host".into();
        spec["domainname"] = "my.domain".into();
    })
    .await;
    assert_eq!(outcome.text(), "my-host\nmy.domain");
    let outcome = sh(vm, "names", "hostname", |spec| {
        spec.as_object_mut().unwrap().remove("hostname");
    })
    .await;
    assert_eq!(outcome.text(), "guest-host");
}

pub async fn read_only_root(vm: &Vm) {
    let script = "touch /x 2>&1; touch /run/x && echo run; touch /tmp/x 2>&1";
    let outcome = sh(vm, "ro", script, |spec| spec["root"]["readonly"] = true.into()).await;
    let text = outcome.text();
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(text.contains("run\n"));
    assert!(!vm.dir.join("share/ro/rootfs/x").exists());
}

pub async fn bind_mounts(vm: &Vm) {
    let root = vm.rootfs("binds");
    let source = vm.dir.join("share/binds/mounts");
    fs::create_dir_all(source.join("0")).unwrap();
    fs::create_dir_all(source.join("1")).unwrap();
    fs::write(source.join("0/f"), "ro").unwrap();
    fs::write(source.join("2"), "nameserver 1.2.3.4\n").unwrap();
    let share = format!("{SHARE_DIR}/binds/mounts");
    let script = "cat /ro/f; touch /ro/x 2>&1; echo w > /rw/new; cat /etc/resolv.conf; \
                  mount | grep -c ' /t type tmpfs'; touch /t/x && echo t; pwd";
    let outcome = sh(vm, "binds", script, |spec| {
        mount(spec, "/ro", "bind", &format!("{share}/0"), &["rbind", "ro"]);
        mount(spec, "/rw", "bind", &format!("{share}/1"), &["rbind", "rw"]);
        mount(spec, "/etc/resolv.conf", "bind", &format!("{share}/2"), &["rbind", "ro"]);
        mount(spec, "/t", "tmpfs", "tmpfs", &["size=1m", "nosuid"]);
        spec["process"]["cwd"] = "/rw/sub/dir".into();
    })
    .await;
    let text = outcome.text();
    assert!(text.starts_with("ro") && text.contains("Read-only file system"), "{text}");
    assert!(text.ends_with("nameserver 1.2.3.4\n1\nt\n/rw/sub/dir"), "{text}");
    assert_eq!(fs::read_to_string(source.join("1/new")).unwrap(), "w\n");
    assert!(source.join("1/sub/dir").is_dir() && !root.join("rw/sub").exists());
}

pub async fn limits(vm: &Vm) {
    let script = "ulimit -n; ulimit -Hn; cd /sys/fs/cgroup; cat cpu.max cpu.weight memory.max \
                  pids.max memory.oom.group; cat /proc/self/oom_score_adj /proc/self/cgroup";
    let outcome = sh(vm, "limits", script, |spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 600}]);
        spec["process"]["oomScoreAdj"] = json!(-500);
        mount(spec, "/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
        spec["linux"]["resources"] = json!({
            "cpu": {"quota": 50000, "period": 100000, "shares": 512, "cpus": "0"},
            "memory": {"limit": 64 << 20},
            "pids": {"limit": 20},
            "unified": {"memory.oom.group": "1"}
        });
    })
    .await;
    let expected = "500\n600\n50000 100000\n59\n67108864\n20\n1\n-500\n0::/";
    assert_eq!(outcome.text(), expected, "{}", outcome.errors());
}

/// Without limits in the spec a container has those of containerd's.
pub async fn default_limits(vm: &Vm) {
    let outcome = sh(
        vm,
        "nolimits",
        "ulimit -n; awk '/Max processes/ {print $3}' /proc/self/limits",
        |spec| {
            spec["process"].as_object_mut().unwrap().remove("rlimits");
        },
    )
    .await;
    assert_eq!(outcome.text(), "1048576\nunlimited", "{}", outcome.errors());
}

pub async fn out_of_memory(vm: &Vm) {
    let outcome = sh(vm, "oom", "exec tail /dev/zero", |spec| {
        spec["linux"]["resources"] = json!({"memory": {"limit": 24 << 20}});
    })
    .await;
    assert_eq!((outcome.status, outcome.oom), (137, true), "{}", outcome.errors());
}

pub async fn too_many_processes(vm: &Vm) {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo forked";
    let outcome = sh(vm, "pids", script, |spec| {
        spec["linux"]["resources"] = json!({"pids": {"limit": 8}});
    })
    .await;
    assert_ne!(outcome.status, 0);
    assert!(outcome.errors().contains("fork"), "{}", outcome.errors());
}

pub async fn capabilities(vm: &Vm) {
    let script = "grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status; \
                  mount -t tmpfs x /tmp 2>&1";
    let outcome = sh(vm, "caps", script, |spec| {
        let some = json!(["CAP_KILL", "CAP_CHOWN"]);
        spec["process"]["capabilities"] =
            json!({"bounding": some, "effective": some, "permitted": some});
    })
    .await;
    let text = outcome.text();
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000021",
        "CapEff:\t0000000000000021",
        "CapBnd:\t0000000000000021",
        "NoNewPrivs:\t1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains("denied") || text.contains("not permitted"), "{text}");
    let ambient = sh(vm, "caps", "grep Cap /proc/self/status", |spec| {
        let some = json!(["CAP_NET_BIND_SERVICE"]);
        spec["process"]["capabilities"] = json!({"bounding": some, "effective": some,
            "permitted": some, "inheritable": some, "ambient": some});
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    })
    .await;
    assert!(ambient.text().contains("CapEff:\t0000000000000400"), "{}", ambient.text());
}

pub async fn seccomp(vm: &Vm) {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"}
        ]
    });
    for no_new_privileges in [json!(true), json!(false), Value::Null] {
        let outcome = sh(vm, "seccomp", "mkdir /tmp/d; hostname x; echo $?", |spec| {
            spec["linux"]["seccomp"] = profile.clone();
            spec["process"]["noNewPrivileges"] = no_new_privileges.clone();
        })
        .await;
        assert!(outcome.errors().contains("not permitted"), "{}", outcome.errors());
        assert_eq!(outcome.text(), "159", "128 + SIGSYS: {}", outcome.errors());
    }
}

pub async fn masked_and_read_only_paths(vm: &Vm) {
    let script = "wc -c < /proc/cmdline; ls /sys/kernel | wc -l; \
                  echo 1 > /proc/sys/vm/swappiness; echo 1 > /proc/irq/default_smp_affinity";
    let outcome = sh(vm, "masked", script, |spec| {
        spec["linux"]["maskedPaths"] = json!(["/proc/cmdline", "/sys/kernel", "/no/such"]);
    })
    .await;
    assert_eq!(outcome.text(), "0\n0");
    assert_eq!(
        outcome.errors().matches("Read-only file system").count(),
        2,
        "{}",
        outcome.errors()
    );
}

pub async fn sysctls(vm: &Vm) {
    let script = "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let outcome = sh(vm, "sysctl", script, |spec| {
        spec["linux"]["sysctl"] =
            json!({"kernel.msgmax": "4096", "net.ipv4.ip_unprivileged_port_start": "77"});
    })
    .await;
    assert_eq!(outcome.text(), "4096\n77");
    let mut bad = spec("sysctl", &["true"]);
    bad["linux"]["sysctl"] = json!({"net.ipv4.no_such_thing": "1"});
    let (_, text) = code(&vm.create("sysctl", &bad, Default::default()).await.unwrap_err());
    assert!(text.contains("net.ipv4.no_such_thing"), "{text}");
    bad["linux"]["sysctl"] = json!({"kernel.panic": "1"});
    let (_, text) = code(&vm.create("sysctl", &bad, Default::default()).await.unwrap_err());
    assert!(text.contains("kernel.panic"), "{text}");
}

pub async fn devices(vm: &Vm) {
    let script = "head -c 3 /dev/zero | wc -c; echo x > /dev/null; ls -l /dev/fuse; \
                  readlink /dev/fd; readlink /dev/ptmx; echo x > /dev/full";
    let outcome = sh(vm, "devices", script, |spec| {
        spec["linux"]["devices"] = json!([{"path": "/dev/fuse", "type": "c", "major": 10,
            "minor": 229, "fileMode": 0o666, "uid": 3, "gid": 4}]);
    })
    .await;
    let text = outcome.text();
    assert!(text.starts_with("3\ncrw-rw-rw-    1 3        4          10, 229"), "{text}");
    assert!(text.ends_with("/proc/self/fd\npts/ptmx"), "{text}");
    assert!(outcome.errors().contains("No space left"), "{}", outcome.errors());
    // A root that has the nodes already, and no /dev over them.
    for _ in 0..2 {
        let outcome = sh(vm, "devroot", "echo x > /dev/null && stat -c %F /dev/null", |spec| {
            spec["mounts"].as_array_mut().unwrap().truncate(1);
        })
        .await;
        assert_eq!(outcome.text(), "character special file", "{}", outcome.errors());
    }
}

pub async fn network(vm: &Vm) {
    let outcome = sh(vm, "net", "ip addr show lo", |_| {}).await;
    let text = outcome.text();
    assert!(text.contains("127.0.0.1/8") && text.contains("UP"), "{text} {}", outcome.errors());
}

/// What the host leaves of a spec of containerd's CRI plug-in and kubelet.
pub async fn specs_from_clusters(vm: &Vm) {
    let outcome = sh(vm, "cluster", "echo ok; grep -c NoNewPrivs /proc/self/status", |spec| {
        spec["linux"]["rootfsPropagation"] = "slave".into();
        spec["hooks"] = json!({"startContainer": []});
    })
    .await;
    assert_eq!(outcome.text(), "ok\n1", "{}", outcome.errors());
}

pub async fn refused_specs(vm: &Vm) {
    vm.rootfs("refused");
    type Change = fn(&mut Value);
    let changes: &[(Change, &str)] = &[
        (|s| s["process"]["args"] = json!([]), "process.args must not be empty"),
        (|s| s["process"]["args"] = json!(["a\0b"]), "NUL"),
        (|s| s["root"]["path"] = "/".into(), "not below /run/sandbox/share"),
        (|s| s["root"]["path"] = format!("{SHARE_DIR}/x/../..").into(), "not below"),
        (|s| mount(s, "/x", "bind", "/run/sandbox/c", &["rbind"]), "not below"),
        (|s| s["linux"]["namespaces"][1]["path"] = "/proc/1/ns/ipc".into(), "ipc namespace"),
        (|s| s["linux"]["namespaces"] = json!([{"type": "pid"}]), "mount namespace"),
        (|s| s["hooks"] = json!({"createContainer": [{"path": "/x"}]}), "hooks.createContainer"),
        (|s| s["linux"]["cgroupsPath"] = "/default/x".into(), "linux.cgroupsPath"),
        (|s| s["linux"]["intelRdt"] = json!({"closID": "x"}), "linux.intelRdt"),
        (|s| s["ociVersion"] = "2.0.0".into(), "ociVersion"),
        (|s| s["process"]["capabilities"]["bounding"] = json!(["CAP_NOPE"]), "cannot be read"),
    ];
    for (change, words) in changes {
        let mut spec = spec("refused", &["true"]);
        change(&mut spec);
        let created = vm.create("refused", &spec, Default::default()).await;
        let (_, text) = code(&created.unwrap_err());
        assert!(text.contains(words), "{words}: {text}");
    }
    let mut spec = spec("refused", &["true"]);
    mount(&mut spec, "/x", "nosuchfs", "none", &[]);
    let (_, text) = code(&vm.create("refused", &spec, Default::default()).await.unwrap_err());
    println!("unknown fs: {text}");
    assert!(text.contains("nosuchfs"), "{text}");
    let mut spec2 = crate::vm::spec("refused", &["true"]);
    mount(&mut spec2, "/x", "bind", &format!("{SHARE_DIR}/refused/none"), &["rbind"]);
    let (_, text) = code(&vm.create("refused", &spec2, Default::default()).await.unwrap_err());
    println!("missing source: {text}");
    assert!(text.contains("refused/none"), "{text}");
}

/// A container reaches neither the agent's binary nor its files.
pub async fn isolated_from_the_guest(vm: &Vm) {
    let root = vm.rootfs("isolated");
    fs::set_permissions(root.join("home/u"), fs::Permissions::from_mode(0o755)).unwrap();
    let script = "ls /proc | grep -c '^[0-9]'; ls /run | wc -l; env | grep -c SANDBOX; \
                  ls -l /proc/self/fd | wc -l; mount | grep -c sandbox/share";
    let outcome = sh(vm, "isolated", script, |_| {}).await;
    let lines: Vec<_> = outcome.text().lines().map(str::to_owned).collect();
    assert!(lines[0].parse::<u32>().unwrap() <= 4, "{lines:?}");
    assert_eq!(lines[1..3], ["0", "0"], "{lines:?}");
    // 0, 1, 2, the folder itself, and the line with the total.
    assert_eq!(lines[3], "5", "{lines:?}");
}
