//! Create, start, signal, wait, delete.

use sandbox_agent_protocol::agent::{ProcessRequest, Status};
use ttrpc::Code;

use crate::protocol::code;
use crate::vm::{Vm, ctx, spec, stdio};
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case!(lifecycle::exit_codes),
    case!(lifecycle::killed_by_signals),
    case!(lifecycle::states),
    case!(lifecycle::created_and_deleted),
    case!(lifecycle::descendants_die_with_init),
    case!(lifecycle::kill_all),
    case!(lifecycle::missing_programs),
    case!(lifecycle::not_executable_after_start),
    case!(lifecycle::ids_can_be_used_again),
    case!(lifecycle::many_waiters),
    case!(lifecycle::shared_pid_namespace),
    case!(lifecycle::sigterm_to_init),
];

pub async fn exit_codes(vm: &Vm) {
    vm.rootfs("codes");
    for status in [0, 1, 7, 126, 127, 255] {
        let command = format!("exit {status}");
        let outcome = vm.run("codes", &spec("codes", &["sh", "-c", &command])).await;
        assert_eq!(outcome.status, status);
        assert!(!outcome.oom);
    }
}

pub async fn killed_by_signals(vm: &Vm) {
    vm.rootfs("signals");
    for signal in [1, 9, 10, 15, 34, 64] {
        let script = "trap 'exit 99' HUP; while :; do sleep 100 & wait $!; done";
        let trap = ["sh", "-c", if signal == 1 { script } else { "echo; exec sleep 100" }];
        let mut spec = spec("signals", &trap);
        // Signals reach process 1 of a namespace only if it handles them, so
        // without such a namespace they end it.
        spec["linux"]["namespaces"] =
            serde_json::json!([{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}]);
        vm.create("signals", &spec, stdio(false, true, false)).await.unwrap();
        vm.start("signals").await.unwrap();
        if signal == 1 {
            // Until the shell has set its trap, the signal would end it.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        vm.kill("signals", signal, false).await.unwrap();
        let expected = if signal == 1 { 99 } else { 128 + signal };
        assert_eq!(vm.wait("signals").await.exit_status, expected);
        let error = vm.kill("signals", signal, false).await.unwrap_err();
        assert_eq!(code(&error).0, Code::NOT_FOUND);
        vm.delete("signals").await.unwrap();
    }
    let error = vm.kill("signals", 9, false).await.unwrap_err();
    assert_eq!(code(&error).0, Code::NOT_FOUND);
}

pub async fn states(vm: &Vm) {
    vm.rootfs("states");
    let pid = vm
        .create("states", &spec("states", &["sleep", "1000"]), stdio(false, false, false))
        .await
        .unwrap();
    let state = vm.state("states").await.unwrap();
    assert_eq!((state.status.unwrap(), state.pid), (Status::CREATED, pid));
    let again = vm.create("states", &spec("states", &["true"]), Default::default()).await;
    assert_eq!(code(&again.unwrap_err()).0, Code::ALREADY_EXISTS);
    assert_eq!(vm.pids("states").await, [pid]);

    assert_eq!(vm.start("states").await.unwrap(), pid);
    assert_eq!(vm.state("states").await.unwrap().status.unwrap(), Status::RUNNING);
    assert_eq!(code(&vm.start("states").await.unwrap_err()).0, Code::FAILED_PRECONDITION);
    assert_eq!(code(&vm.delete("states").await.unwrap_err()).0, Code::FAILED_PRECONDITION);
    for signal in [0, 65, 1000] {
        let error = vm.kill("states", signal, false).await.unwrap_err();
        assert_eq!(code(&error).0, Code::INVALID_ARGUMENT);
    }
    let unknown = ProcessRequest {
        container_id: "states".into(),
        exec_id: "nope".into(),
        ..Default::default()
    };
    let error = vm.agent.wait(ctx(), &unknown).await.unwrap_err();
    assert_eq!(code(&error).0, Code::NOT_FOUND);

    vm.kill("states", 9, false).await.unwrap();
    let exit = vm.wait("states").await;
    assert_eq!(exit.exit_status, 137);
    let state = vm.state("states").await.unwrap();
    assert_eq!(state.status.unwrap(), Status::STOPPED);
    assert_eq!((state.exit_status, state.exited_seconds), (137, exit.exited_seconds));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((now.as_secs() as i64 - exit.exited_seconds).abs() < 120, "{exit:?}");
    assert_eq!(code(&vm.start("states").await.unwrap_err()).0, Code::FAILED_PRECONDITION);
    vm.delete("states").await.unwrap();
    assert_eq!(code(&vm.delete("states").await.unwrap_err()).0, Code::NOT_FOUND);
}

pub async fn created_and_deleted(vm: &Vm) {
    vm.rootfs("created");
    for _ in 0..3 {
        let spec = spec("created", &["sh"]);
        vm.create("created", &spec, stdio(true, true, true)).await.unwrap();
        vm.delete("created").await.unwrap();
    }
}

pub async fn descendants_die_with_init(vm: &Vm) {
    vm.rootfs("orphans");
    let script = "sleep 1000 & (sleep 1000 & sleep 1000) & echo; exit 3";
    let outcome = vm.run("orphans", &spec("orphans", &["sh", "-c", script])).await;
    assert_eq!(outcome.status, 3);
}

pub async fn kill_all(vm: &Vm) {
    vm.rootfs("all");
    let spec = spec("all", &["sh", "-c", "sleep 1000 & sleep 1000; true"]);
    vm.create("all", &spec, stdio(false, false, false)).await.unwrap();
    vm.start("all").await.unwrap();
    while vm.pids("all").await.len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    vm.kill("all", 9, true).await.unwrap();
    assert_eq!(vm.wait("all").await.exit_status, 137);
    assert!(vm.pids("all").await.is_empty());
    assert_eq!(code(&vm.kill("all", 9, true).await.unwrap_err()).0, Code::NOT_FOUND);
    vm.delete("all").await.unwrap();
}

pub async fn missing_programs(vm: &Vm) {
    let root = vm.rootfs("missing");
    std::fs::write(root.join("etc/plain"), "x").unwrap();
    for (program, words) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/nope", "exec: \"/nope\": stat /nope: no such file or directory"),
        ("/etc/plain", "exec: \"/etc/plain\": permission denied"),
        ("/etc", "exec: \"/etc\": is a directory"),
    ] {
        let spec = spec("missing", &[program]);
        let created = vm.create("missing", &spec, stdio(false, true, true)).await;
        let (_, text) = code(&created.unwrap_err());
        assert_eq!(text, words);
        assert_eq!(code(&vm.state("missing").await.unwrap_err()).0, Code::NOT_FOUND);
    }
}

pub async fn not_executable_after_start(vm: &Vm) {
    use std::os::unix::fs::PermissionsExt;
    let root = vm.rootfs("format");
    std::fs::write(root.join("bin/junk"), "\x7fELFjunk").unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.join("bin/junk"), mode).unwrap();
    let outcome = vm.run("format", &spec("format", &["junk"])).await;
    assert_eq!(
        (outcome.status, outcome.errors().as_str()),
        (255, "exec /bin/junk: exec format error")
    );
}

pub async fn ids_can_be_used_again(vm: &Vm) {
    vm.rootfs("again");
    for round in 0..10 {
        let text = round.to_string();
        let outcome = vm.run("again", &spec("again", &["echo", &text])).await;
        assert_eq!(outcome.text(), text);
    }
}

pub async fn many_waiters(vm: &Vm) {
    vm.rootfs("waiters");
    let spec = spec("waiters", &["sh", "-c", "exit 5"]);
    vm.create("waiters", &spec, stdio(false, false, false)).await.unwrap();
    let start = vm.start("waiters");
    let (a, b, started, c) =
        tokio::join!(vm.wait("waiters"), vm.wait("waiters"), start, vm.wait("waiters"));
    started.unwrap();
    let late = vm.wait("waiters").await;
    for exit in [&a, &b, &c] {
        assert_eq!(*exit, late);
    }
    assert_eq!(late.exit_status, 5);
    vm.delete("waiters").await.unwrap();
}

pub async fn shared_pid_namespace(vm: &Vm) {
    vm.rootfs("shared-pid");
    let mut spec = spec("shared-pid", &["sh", "-c", "sleep 1000 & sleep 1000 & exit 4"]);
    spec["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "uts"}]);
    vm.create("shared-pid", &spec, stdio(false, false, false)).await.unwrap();
    vm.start("shared-pid").await.unwrap();
    assert_eq!(vm.wait("shared-pid").await.exit_status, 4);
    vm.delete("shared-pid").await.unwrap();
}

pub async fn sigterm_to_init(vm: &Vm) {
    vm.rootfs("term");
    // As with runc, process 1 of a pid namespace ignores what it does not handle.
    let ignoring = spec("term", &["sleep", "1000"]);
    vm.create("term", &ignoring, stdio(false, false, false)).await.unwrap();
    vm.start("term").await.unwrap();
    vm.kill("term", 15, false).await.unwrap();
    assert_eq!(vm.state("term").await.unwrap().status.unwrap(), Status::RUNNING);
    vm.kill("term", 9, false).await.unwrap();
    assert_eq!(vm.wait("term").await.exit_status, 137);
    vm.delete("term").await.unwrap();
}

/// What process 1 has open, the zombies, and the cgroups of containers.
async fn inventory(vm: &Vm) -> String {
    let script = "mount -t cgroup2 none /mnt; ls /proc/1/fd | wc -l; \
                  grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l; \
                  ls -d /mnt/container-* | wc -l; ls /proc/1/root/run/sandbox/c \
                  /proc/1/root/run/sandbox/b /proc/1/root/run/sandbox/e | wc -l";
    let mut spec = spec("inventory", &["sh", "-c", script]);
    spec["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
    let caps = serde_json::json!(["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    spec["process"]["capabilities"] =
        serde_json::json!({"bounding": caps, "effective": caps, "permitted": caps});
    spec.as_object_mut().unwrap().remove("hostname");
    let outcome = vm.run("inventory", &spec).await;
    assert_eq!(outcome.status, 0, "{}", outcome.errors());
    outcome.text()
}

/// Runs when every other case has ended.
pub async fn nothing_is_left(vm: &Vm) {
    let root = vm.rootfs("inventory");
    std::fs::create_dir_all(root.join("mnt")).unwrap();
    vm.rootfs("cycles");
    let before = inventory(vm).await;
    println!("open files of process 1, zombies, cgroups, files: {before:?}");
    for _ in 0..20 {
        vm.run("cycles", &spec("cycles", &["sh", "-c", "sleep 100 & exit 0"])).await;
        let missing = spec("cycles", &["nope"]);
        vm.create("cycles", &missing, stdio(true, true, true)).await.unwrap_err();
    }
    crate::exec::cycles(vm).await;
    assert_eq!(inventory(vm).await, before);
}
