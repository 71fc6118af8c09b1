#![allow(clippy::unwrap_used)]
use std::fs;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

fn hooks(dir: &TempDir, hooks: Value) -> Hooks {
    let spec = json!({
        "ociVersion": "1.1.0",
        "annotations": {"nerdctl/networks": "[\"bridge\"]"},
        "hooks": hooks,
    });
    let spec: Spec = serde_json::from_value(spec).unwrap();
    Hooks::of(&spec, "web", dir.path())
}

fn sh(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["hook", "-c", script], "env": ["PATH=/bin:/usr/bin", "A=b=c"]})
}

#[test]
fn hooks_are_told_the_state_and_run_in_order() {
    let dir = TempDir::new().unwrap();
    let hooks = hooks(
        &dir,
        json!({
            "prestart": [sh("cat >state; echo prestart $A $0 $HOME >>order")],
            "createRuntime": [sh("echo createRuntime >>order")],
            "poststop": [sh("cat >stopped; exit 3"), sh("echo poststop >>order")],
        }),
    );
    assert!(hooks.has(Phase::Create) && !hooks.has(Phase::Poststart) && hooks.has(Phase::Poststop));
    hooks.run(Phase::Create, 4711, None).unwrap();
    hooks.run(Phase::Poststart, 4711, None).unwrap();
    // One that fails at the end keeps none from running.
    let error = hooks.run(Phase::Poststop, 0, None).unwrap_err().to_string();
    assert!(error.contains("poststop hook /bin/sh exited with status 3"), "{error}");
    let order = fs::read_to_string(dir.path().join("order")).unwrap();
    assert_eq!(order, "prestart b=c hook\ncreateRuntime\npoststop\n");
    let read = |name| -> Value {
        serde_json::from_slice(&fs::read(dir.path().join(name)).unwrap()).unwrap()
    };
    let state = read("state");
    assert_eq!(state["pid"], 4711);
    assert_eq!(state["status"], "creating");
    assert_eq!(state["id"], "web");
    assert_eq!(state["ociVersion"], "1.1.0");
    assert_eq!(state["bundle"], dir.path().to_str().unwrap());
    assert_eq!(state["annotations"]["nerdctl/networks"], "[\"bridge\"]");
    assert_eq!(
        (&read("stopped")["pid"], &read("stopped")["status"]),
        (&json!(0), &json!("stopped"))
    );
}

#[test]
fn a_hook_that_fails_says_so_and_ends_the_phase() {
    let dir = TempDir::new().unwrap();
    let failing = hooks(
        &dir,
        json!({"createRuntime": [sh("echo no such bridge >&2; exit 7"), sh("touch ran")]}),
    );
    let error = failing.run(Phase::Create, 1, None).unwrap_err().to_string();
    assert_eq!(error, "the createRuntime hook /bin/sh exited with status 7: no such bridge");
    assert!(!dir.path().join("ran").exists());
    let missing = hooks(&dir, json!({"prestart": [{"path": "/nonexistent"}]}));
    let error = missing.run(Phase::Create, 1, None).unwrap_err().to_string();
    assert!(error.contains("prestart hook /nonexistent cannot be run"), "{error}");
}

#[test]
fn a_hook_that_hangs_is_killed_with_what_it_started() {
    let dir = TempDir::new().unwrap();
    let mut hook = sh("sleep 1000 & echo $! >child; wait");
    hook["timeout"] = json!(1);
    let began = Instant::now();
    let error = hooks(&dir, json!({"createRuntime": [hook]})).run(Phase::Create, 1, None);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("did not end within 1 s and was killed"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let child: i32 = fs::read_to_string(dir.path().join("child")).unwrap().trim().parse().unwrap();
    // It was sent the signal; none is there once it has ended.
    if let Ok(pidfd) = pidfd_open(Pid::from_raw(child).unwrap(), PidfdFlags::empty()) {
        let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)), Ok(1));
    }
}

#[test]
fn a_hook_that_reads_nothing_and_leaves_a_process_behind_holds_nothing_up() {
    let dir = TempDir::new().unwrap();
    let hooks = hooks(&dir, json!({"createRuntime": [sh("setsid sleep 30 & echo $! >child")]}));
    let began = Instant::now();
    hooks.run(Phase::Create, 1, None).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    let child: i32 = fs::read_to_string(dir.path().join("child")).unwrap().trim().parse().unwrap();
    kill_process_group(Pid::from_raw(child).unwrap(), Signal::KILL).ok();
    rustix::process::kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).ok();
}

#[test]
fn the_end_is_told_by_whoever_removes_what_a_dead_shim_left() {
    let (dir, marks) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let spec = json!({"ociVersion": "1.1.0", "hooks": {"poststop": [sh("cat >told")]}});
    fs::write(dir.path().join("config.json"), spec.to_string()).unwrap();
    Marker::set(marks.path(), "web", dir.path()).unwrap();
    // One whose bundle is gone as well has nobody to tell.
    fs::write(marks.path().join("lost"), "/nonexistent").unwrap();
    finish_all(marks.path(), Duration::from_secs(20));
    let told: Value = serde_json::from_slice(&fs::read(dir.path().join("told")).unwrap()).unwrap();
    assert_eq!(
        (&told["id"], &told["status"], &told["pid"]),
        (&json!("web"), &json!("stopped"), &json!(0))
    );
    assert_eq!(fs::read_dir(marks.path()).unwrap().count(), 0);
    // Once.
    fs::remove_file(dir.path().join("told")).unwrap();
    finish_all(marks.path(), Duration::from_secs(20));
    assert!(!dir.path().join("told").exists());
}

#[test]
fn a_hook_without_an_environment_finds_programs_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let mut hook = sh("env >env");
    hook.as_object_mut().unwrap().remove("env");
    hooks(&dir, json!({"createRuntime": [hook]})).run(Phase::Create, 1, None).unwrap();
    let env = fs::read_to_string(dir.path().join("env")).unwrap();
    assert!(env.lines().any(|line| line.starts_with("PATH=/")), "{env}");
    // These two a shell sets by itself.
    let mut rest =
        env.lines().filter(|line| !line.starts_with("PATH=") && !line.starts_with("PWD="));
    assert!(rest.all(|line| line.starts_with("OLDPWD=")), "{env}");
}
