//! Processes that are run in a container that is there.

use std::os::unix::fs::PermissionsExt;

use sandbox_agent_protocol::agent::{
    ExecProcessRequest, KillRequest, ProcessRequest, ResizePtyRequest, WaitResponse,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use ttrpc::Code;

use crate::protocol::code;
use crate::vm::{Stdio_, Vm, ctx, spec, stdio};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case!(exec::it_is_in_the_container),
    case!(exec::what_it_does_not_ask_for),
    case!(exec::what_it_asks_for),
    case!(exec::seccomp_holds),
    case!(exec::a_user_namespace_is_joined),
    case!(exec::programs_that_cannot_be_run),
    case!(exec::ids_and_states),
    case!(exec::before_the_start),
    case!(exec::on_a_terminal),
    case!(exec::in_nested_cgroups),
    case!(exec::many_at_once),
];

/// The bare minimum of a process.
fn process(words: &[&str]) -> Value {
    json!({"user": {"uid": 0, "gid": 0}, "args": words, "cwd": "/", "env": ["PATH=/bin"]})
}

fn named(id: &str, exec: &str) -> ProcessRequest {
    ProcessRequest { container_id: id.into(), exec_id: exec.into(), ..Default::default() }
}

async fn run(vm: &Vm, id: &str, exec: &str, process: &Value, stdio: Stdio_) -> ttrpc::Result<u32> {
    let request = ExecProcessRequest {
        container_id: id.into(),
        exec_id: exec.into(),
        process: serde_json::to_vec(process).unwrap(),
        stdio: Some(stdio).into(),
        ..Default::default()
    };
    vm.agent.exec_process(ctx(), &request).await.map(|answer| answer.pid)
}

async fn wait(vm: &Vm, id: &str, exec: &str) -> WaitResponse {
    vm.agent.wait(ctx(), &named(id, exec)).await.unwrap()
}

async fn forget(vm: &Vm, id: &str, exec: &str) -> ttrpc::Result<()> {
    vm.agent.delete_process(ctx(), &named(id, exec)).await.map(drop)
}

/// Runs a process to its end; its status and its output.
async fn output(vm: &Vm, id: &str, exec: &str, process: &Value) -> (u32, String) {
    run(vm, id, exec, process, stdio(false, true, false)).await.unwrap();
    let mut text = String::new();
    let mut out = vm.fetch(&format!("{id} {exec} stdout")).await.unwrap();
    out.read_to_string(&mut text).await.unwrap();
    let status = wait(vm, id, exec).await.exit_status;
    forget(vm, id, exec).await.unwrap();
    (status, text.trim_end().to_owned())
}

async fn sh(vm: &Vm, id: &str, line: &str) -> String {
    let (status, text) = output(vm, id, "sh", &process(&["sh", "-c", line])).await;
    assert_eq!(status, 0, "{text}");
    text
}

/// A running container that does nothing.
async fn sleeper(vm: &Vm, id: &str, change: impl FnOnce(&mut Value)) {
    vm.rootfs(id);
    let mut spec = spec(id, &["sleep", "1000"]);
    change(&mut spec);
    vm.create(id, &spec, stdio(false, false, false)).await.unwrap();
    vm.start(id).await.unwrap();
}

async fn end(vm: &Vm, id: &str) {
    vm.kill(id, 9, true).await.unwrap();
    vm.wait(id).await;
    vm.delete(id).await.unwrap();
}

pub async fn it_is_in_the_container(vm: &Vm) {
    sleeper(vm, "x-in", |_| {}).await;
    let all = "cd /proc/$0/ns; for n in cgroup ipc mnt net pid uts; do readlink $n; done";
    let of = |who: &str| process(&["sh", "-c", all, who]);
    let first = output(vm, "x-in", "x", &of("1")).await;
    assert_eq!((first.0, first.1.lines().count()), (0, 6), "{first:?}");
    assert_eq!(output(vm, "x-in", "x", &of("self")).await, first);
    assert_eq!(sh(vm, "x-in", "hostname; cat /proc/self/cgroup").await, "x-in\n0::/");
    // Descriptors of the agent's would be seen here; 3 is that of the folder.
    assert_eq!(sh(vm, "x-in", "ls /proc/self/fd | tr '\\n' ' '").await, "0 1 2 3");
    // Nothing of the agent's is left in the container.
    assert_eq!(vm.pids("x-in").await.len(), 1);
    end(vm, "x-in").await;
}

pub async fn what_it_does_not_ask_for(vm: &Vm) {
    sleeper(vm, "x-bare", |spec| {
        spec["process"]["oomScoreAdj"] = json!(300);
        spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH"});
    })
    .await;
    let of = |who: &str| {
        format!(
            "grep -E '^Cap(Prm|Eff|Bnd|Inh|Amb)' /proc/{who}/status; \
             grep files /proc/{who}/limits; cat /proc/{who}/oom_score_adj; \
             sed 's/.*) //' /proc/{who}/stat | cut -d' ' -f39"
        )
    };
    let own = sh(vm, "x-bare", &of("$$")).await;
    assert_eq!(own, sh(vm, "x-bare", &of("1")).await);
    assert!(own.ends_with("\n300\n3"), "SCHED_BATCH is 3: {own}");
    end(vm, "x-bare").await;
}

pub async fn what_it_asks_for(vm: &Vm) {
    sleeper(vm, "x-own", |_| {}).await;
    let line = "id -u; id -g; id -G; pwd; umask; ulimit -n; echo $A $HOME; \
                grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status | tr -d '\\t'; \
                sed 's/.*) //' /proc/$$/stat | cut -d' ' -f39; \
                grep Cpus_allowed_list /proc/self/status | tr -d '\\t'";
    let mut wanted = process(&["sh", "-c", line]);
    wanted["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o077});
    wanted["cwd"] = json!("/home/u");
    wanted["env"] = json!(["PATH=/bin", "A=one", "A=two"]);
    wanted["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}]);
    wanted["capabilities"] = json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"],
        "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    wanted["noNewPrivileges"] = json!(true);
    wanted["scheduler"] = json!({"policy": "SCHED_IDLE"});
    wanted["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    wanted["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    let expected = "1000\n1001\n1001 5 6\n/home/u\n0077\n33\ntwo /home/u\n\
                    CapEff:0000000000000020\nCapBnd:0000000000000020\nNoNewPrivs:1\n5\n\
                    Cpus_allowed_list:0";
    assert_eq!(output(vm, "x-own", "x", &wanted).await, (0, expected.to_owned()));
    for (field, value, words) in [
        ("execCPUAffinity", json!({"final": "7-5"}), "cannot run on the CPUs \"7-5\""),
        (
            "scheduler",
            json!({"policy": "SCHED_FIFO", "priority": 1000}),
            "cannot set the scheduler",
        ),
        ("cwd", json!("/nope"), "chdir to cwd (\"/nope\") set in config.json failed: no such file"),
    ] {
        let mut wanted = process(&["true"]);
        wanted[field] = value;
        let failed = run(vm, "x-own", "x", &wanted, Default::default()).await;
        let (_, text) = code(&failed.unwrap_err());
        assert!(text.contains(words), "{text}");
    }
    end(vm, "x-own").await;
}

/// With and without the promise to take on no privileges, which decides when
/// the filter is loaded.
pub async fn seccomp_holds(vm: &Vm) {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    });
    sleeper(vm, "x-filter", |spec| spec["linux"]["seccomp"] = profile).await;
    for promised in [true, false] {
        let mut wanted =
            process(&["sh", "-c", "grep Seccomp: /proc/self/status; mkdir /tmp/d 2>&1"]);
        wanted["noNewPrivileges"] = json!(promised);
        let (status, text) = output(vm, "x-filter", "x", &wanted).await;
        assert_eq!(status, 1, "{text}");
        assert!(text.starts_with("Seccomp:\t2"), "{text}");
        assert!(text.ends_with("No space left on device"), "{text}");
    }
    end(vm, "x-filter").await;
}

pub async fn a_user_namespace_is_joined(vm: &Vm) {
    sleeper(vm, "x-user", |spec| {
        let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        // The guest's network, and so this, belongs to the guest's root.
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys");
        let root = format!("{}/x-user/rootfs", vm.dir.join("share").display());
        for dir in ["", "/tmp", "/home/u", "/proc", "/dev", "/sys"] {
            std::os::unix::fs::chown(format!("{root}{dir}"), Some(100_000), Some(100_000)).unwrap();
        }
    })
    .await;
    let line = "id -u; id -G; tr -s ' ' </proc/self/uid_map; readlink /proc/self/ns/user; \
                readlink /proc/1/ns/user; echo x >/dev/stdout";
    let mut wanted = process(&["sh", "-c", line]);
    wanted["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
    let (status, text) = output(vm, "x-user", "x", &wanted).await;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!((status, &lines[..3]), (0, &["7", "8 9", "0 100000 65536"][..]), "{text}");
    // Another user's process, so its namespaces are hidden from this one.
    assert!(lines[3].starts_with("user:["), "{text}");
    assert_eq!(lines.last(), Some(&"x"), "its own stream can be opened anew");
    let same = "test $(readlink /proc/self/ns/user) = $(readlink /proc/1/ns/user)";
    sh(vm, "x-user", same).await;
    end(vm, "x-user").await;
}

pub async fn programs_that_cannot_be_run(vm: &Vm) {
    sleeper(vm, "x-none", |_| {}).await;
    let bin = vm.dir.join("share/x-none/rootfs/bin");
    for (name, text) in [("junk", "\x7fELFjunk"), ("orphan", "#!/no/such/shell\n")] {
        std::fs::write(bin.join(name), text).unwrap();
        std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::write(bin.join("plain"), "x").unwrap();
    for (program, words) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/nope", "exec: \"/nope\": stat /nope: no such file or directory"),
        ("/bin/plain", "exec: \"/bin/plain\": permission denied"),
        ("/etc", "exec: \"/etc\": is a directory"),
        ("junk", "exec /bin/junk: exec format error"),
        ("orphan", "exec /bin/orphan: no such file or directory"),
    ] {
        let failed = run(vm, "x-none", "x", &process(&[program]), stdio(true, true, true)).await;
        assert_eq!(code(&failed.unwrap_err()), (Code::UNKNOWN, words.to_owned()));
        let unknown = vm.agent.wait(ctx(), &named("x-none", "x")).await;
        assert_eq!(code(&unknown.unwrap_err()).0, Code::NOT_FOUND);
    }
    assert_eq!(vm.pids("x-none").await.len(), 1);
    end(vm, "x-none").await;
}

pub async fn ids_and_states(vm: &Vm) {
    sleeper(vm, "x-ids", |_| {}).await;
    let sleep = process(&["sleep", "1000"]);
    let none = Stdio_::default;
    for exec in ["", "..", "a/b"] {
        let refused = run(vm, "x-ids", exec, &sleep, none()).await;
        assert_eq!(code(&refused.unwrap_err()).0, Code::INVALID_ARGUMENT, "{exec:?}");
    }
    let unknown = run(vm, "nope", "x", &sleep, none()).await;
    assert_eq!(code(&unknown.unwrap_err()).0, Code::NOT_FOUND);
    assert_eq!(code(&forget(vm, "x-ids", "x").await.unwrap_err()).0, Code::NOT_FOUND);
    let pid = run(vm, "x-ids", "x", &sleep, none()).await.unwrap();
    assert!(vm.pids("x-ids").await.contains(&pid));
    let again = run(vm, "x-ids", "x", &sleep, none()).await;
    assert_eq!(code(&again.unwrap_err()).0, Code::ALREADY_EXISTS);
    assert_eq!(code(&forget(vm, "x-ids", "x").await.unwrap_err()).0, Code::FAILED_PRECONDITION);
    assert_eq!(code(&forget(vm, "x-ids", "").await.unwrap_err()).0, Code::FAILED_PRECONDITION);
    let kill = |signal| KillRequest {
        container_id: "x-ids".into(),
        exec_id: "x".into(),
        signal,
        ..Default::default()
    };
    vm.agent.kill(ctx(), &kill(15)).await.unwrap();
    let exit = wait(vm, "x-ids", "x").await;
    assert_eq!(exit.exit_status, 143);
    assert_eq!(wait(vm, "x-ids", "x").await, exit);
    let late = vm.agent.kill(ctx(), &kill(15)).await;
    assert_eq!(code(&late.unwrap_err()).0, Code::NOT_FOUND);
    forget(vm, "x-ids", "x").await.unwrap();

    run(vm, "x-ids", "last", &sleep, none()).await.unwrap();
    vm.kill("x-ids", 9, false).await.unwrap();
    vm.wait("x-ids").await;
    assert_eq!(wait(vm, "x-ids", "last").await.exit_status, 137);
    let stopped = run(vm, "x-ids", "x", &sleep, none()).await;
    assert_eq!(
        code(&stopped.unwrap_err()),
        (
            Code::FAILED_PRECONDITION,
            "cannot run a process in container x-ids: it is stopped".to_owned()
        )
    );
    vm.delete("x-ids").await.unwrap();
}

pub async fn before_the_start(vm: &Vm) {
    vm.rootfs("x-early");
    let spec = spec("x-early", &["sh", "-c", "cat /tmp/file; exit 4"]);
    vm.create("x-early", &spec, stdio(false, true, false)).await.unwrap();
    sh(vm, "x-early", "echo early >/tmp/file").await;
    let mut out = vm.fetch("x-early - stdout").await.unwrap();
    vm.start("x-early").await.unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).await.unwrap();
    assert_eq!((vm.wait("x-early").await.exit_status, text.as_str()), (4, "early\n"));
    vm.delete("x-early").await.unwrap();
}

pub async fn on_a_terminal(vm: &Vm) {
    sleeper(vm, "x-tty", |_| {}).await;
    let line = "stty size; read x; stty size; echo $x; echo two >$(tty); id -u >/dev/tty; exit 7";
    let mut wanted = process(&["sh", "-c", line]);
    wanted["user"] = json!({"uid": 1000, "gid": 1000});
    wanted["consoleSize"] = json!({"width": 81, "height": 25});
    let terminal = Stdio_ { stdin: true, stdout: true, terminal: true, ..Default::default() };
    run(vm, "x-tty", "t", &wanted, terminal).await.unwrap();
    let mut out = vm.fetch("x-tty t stdout").await.unwrap();
    let mut keys = vm.fetch("x-tty t stdin").await.unwrap();
    let resize = ResizePtyRequest {
        container_id: "x-tty".into(),
        exec_id: "t".into(),
        width: 120,
        height: 40,
        ..Default::default()
    };
    let mut first = vec![0; "25 81\r\n".len()];
    out.read_exact(&mut first).await.unwrap();
    assert_eq!(first, b"25 81\r\n");
    vm.agent.resize_pty(ctx(), &resize).await.unwrap();
    keys.get_mut().write_all(b"keys\n").await.unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "keys\r\n40 120\r\nkeys\r\ntwo\r\n1000\r\n");
    assert_eq!(wait(vm, "x-tty", "t").await.exit_status, 7);
    forget(vm, "x-tty", "t").await.unwrap();
    end(vm, "x-tty").await;
}

/// A cgroup with controllers for those below takes no processes: what is run
/// in such a container goes where its first process is.
pub async fn in_nested_cgroups(vm: &Vm) {
    let root = vm.rootfs("x-nest");
    std::fs::create_dir_all(root.join("mnt")).unwrap();
    let line = "mount -t cgroup2 none /mnt && mkdir /mnt/own && echo 1 >/mnt/own/cgroup.procs && \
                echo +pids >/mnt/cgroup.subtree_control && echo done; exec sleep 1000";
    let mut spec = spec("x-nest", &["sh", "-c", line]);
    let caps = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    spec["process"]["capabilities"] =
        json!({"bounding": caps, "effective": caps, "permitted": caps});
    vm.create("x-nest", &spec, stdio(false, true, false)).await.unwrap();
    let mut out = vm.fetch("x-nest - stdout").await.unwrap();
    vm.start("x-nest").await.unwrap();
    let mut said = [0; 5];
    out.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"done\n");
    assert_eq!(sh(vm, "x-nest", "cat /proc/self/cgroup").await, "0::/own");
    end(vm, "x-nest").await;
}

pub async fn many_at_once(vm: &Vm) {
    const MANY: u32 = 30;
    sleeper(vm, "x-many", |_| {}).await;
    let each = (0..MANY).map(|number| async move {
        let line = format!("echo {number}; exit {number}");
        output(vm, "x-many", &format!("n{number}"), &process(&["sh", "-c", &line])).await
    });
    let all = futures_util::future::join_all(each).await;
    for (number, ended) in (0..MANY).zip(all) {
        assert_eq!(ended, (number, number.to_string()));
    }
    assert_eq!(vm.pids("x-many").await.len(), 1);
    end(vm, "x-many").await;
}

/// Execs that end in every way there is, in one container.
pub async fn cycles(vm: &Vm) {
    sleeper(vm, "x-cycles", |_| {}).await;
    let terminal = Stdio_ { stdin: true, stdout: true, terminal: true, ..Default::default() };
    for _ in 0..20 {
        output(vm, "x-cycles", "x", &process(&["echo", "x"])).await;
        let missing = process(&["nope"]);
        run(vm, "x-cycles", "x", &missing, stdio(true, true, true)).await.unwrap_err();
        run(vm, "x-cycles", "x", &missing, terminal.clone()).await.unwrap_err();
        run(vm, "x-cycles", "x", &process(&["true"]), terminal.clone()).await.unwrap();
        wait(vm, "x-cycles", "x").await;
        forget(vm, "x-cycles", "x").await.unwrap();
    }
    // Those that nobody forgot go with their container.
    for number in 0..20 {
        let sleep = process(&["sleep", "1000"]);
        run(vm, "x-cycles", &number.to_string(), &sleep, stdio(true, true, true)).await.unwrap();
    }
    end(vm, "x-cycles").await;
}
