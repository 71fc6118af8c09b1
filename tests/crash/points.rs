//! The shim is killed at every step of every call. Whatever the step: the
//! client is answered, everything of the pod ends, containerd can delete what
//! it knows of, nothing is left, and a container of that name runs again.
//!
//! And containerd is killed while the shim is at one.

use std::thread;
use std::time::{Duration, Instant};

use sandbox_tests::{Bed, Wanted, patience, spec, tests, until};
use serde_json::json;

tests![
    Ours the_shim_killed_as_it_starts,
    Ours the_shim_killed_as_a_container_is_made,
    Ours the_shim_killed_in_calls_about_a_container,
    Ours the_shim_killed_as_a_container_goes,
    Ours the_shim_killed_in_calls_about_a_sandbox,
    Ours containerd_killed_in_the_middle_of_calls,
];

/// Longest time that a client waits for the answer to a call whose shim is dead,
/// a boot before it included.
const LIMIT: Duration = Duration::from_secs(15);

fn the_shim_killed_as_it_starts(bed: &Bed) {
    each(
        bed,
        &[
            "bootstrap: a socket",
            "bootstrap: a process",
            "bootstrap: the shim serves",
            "bootstrap: the shim has said so",
            "bootstrap: an address",
            "boot: a folder",
            "boot: a state",
            "boot: processes",
            "boot: all is known",
        ],
    );
}

fn the_shim_killed_as_a_container_is_made(bed: &Bed) {
    each(
        bed,
        &[
            "Task.Create begins",
            "create: folders",
            "create: on the host",
            "create: streams",
            "create: in the guest",
            "Task.Create ends",
            "Task.Wait begins",
            "Task.Start begins",
            "start: a network",
            "start: in the guest",
            "Task.Start ends",
        ],
    );
}

fn the_shim_killed_in_calls_about_a_container(bed: &Bed) {
    each(
        bed,
        &[
            "Task.State begins",
            "Task.State ends",
            "Task.Connect begins",
            "Task.Connect ends",
            "Task.Exec begins",
            "Task.Exec ends",
            "exec: in the guest",
            "Task.CloseIO begins",
            "Task.CloseIO ends",
            "Task.ResizePty begins",
            "Task.ResizePty ends",
            "Task.Pids begins",
            "Task.Pids ends",
            "Task.Stats begins",
            "Task.Stats ends",
            "Task.Update begins",
            "Task.Update ends",
            "Task.Pause begins",
            "Task.Pause ends",
            "Task.Resume begins",
            "Task.Resume ends",
        ],
    );
}

fn the_shim_killed_as_a_container_goes(bed: &Bed) {
    each(
        bed,
        &[
            "Task.Kill begins",
            "Task.Kill ends",
            "Task.Wait ends",
            "Task.Delete begins",
            "delete: in the guest",
            "delete: on the host",
            "Task.Delete ends",
            "Task.Shutdown begins",
            "end: in the guest",
            "end: of the processes",
            "end: of all",
        ],
    );
}

fn the_shim_killed_in_calls_about_a_sandbox(bed: &Bed) {
    const CALLS: [&str; 8] = [
        "CreateSandbox",
        "StartSandbox",
        "Platform",
        "SandboxStatus",
        "PingSandbox",
        "SandboxMetrics",
        "StopSandbox",
        "ShutdownSandbox",
    ];
    let around = |call: &str| [format!("Sandbox.{call} begins"), format!("Sandbox.{call} ends")];
    for (number, point) in CALLS.iter().flat_map(|call| around(call)).enumerate() {
        bed.kill_at(&point);
        let sandbox = bed.sandbox(&format!("pod-{number}"));
        let steps: [&dyn Fn() -> ttrpc::Result<()>; 9] = [
            &|| sandbox.create(&sandbox.request(&Wanted::default())).map(drop),
            &|| sandbox.begin().map(drop),
            &|| sandbox.container(bed, "a", spec(&["sleep", "1000"])).map(drop),
            &|| sandbox.platform().map(drop),
            &|| sandbox.status().map(drop),
            &|| sandbox.ping().map(drop),
            &|| sandbox.metrics().map(drop),
            &|| sandbox.stop().map(drop),
            &|| sandbox.end().map(drop),
        ];
        for (number, step) in steps.iter().enumerate() {
            let (since, answer) = (Instant::now(), step());
            if bed.was_killed() {
                assert!(answer.is_err(), "{point}: a dead shim has answered");
                assert!(since.elapsed() < patience(LIMIT), "{point}: {:?}", since.elapsed());
                break;
            }
            assert!(answer.is_ok(), "{point}: step {number}: {answer:?}");
        }
        assert!(bed.was_killed(), "nothing came by {point:?}");
        sandbox.clean_up(bed);
        bed.assert_clean();
    }
    runs(bed);
}

/// What was under way is done, and known to the next containerd or to nobody;
/// the container can be used, or deleted.
fn containerd_killed_in_the_middle_of_calls(bed: &Bed) {
    for (point, then) in [
        ("boot: processes", "anything"),
        ("create: in the guest", "anything"),
        ("Task.Create ends", "anything"),
        ("start: in the guest", "runs"),
        ("Task.Start ends", "runs"),
        ("exec: in the guest", "runs"),
        ("Task.Exec ends", "runs"),
        ("delete: in the guest", "is gone"),
        ("Task.Delete ends", "is gone"),
    ] {
        bed.hold_at(point);
        let id = bed.id("a");
        thread::scope(|scope| {
            let living = scope.spawn(|| interrupted(bed, &id));
            until(&format!("the shim is at {point:?}"), LIMIT, || bed.is_held().then_some(()));
            bed.kill_containerd();
            bed.let_go();
            living.join().unwrap();
        });
        bed.start_containerd();
        let status = || bed.task_status(&id);
        match then {
            "runs" => {
                assert_eq!(status().as_deref(), Some("RUNNING"), "{point}");
                let fifos = bed.dir().join("execs").display().to_string();
                let exec = ["task", "exec", "--fifo-dir", &fifos, "--exec-id", "after", &id];
                let out = bed.ctr(&[&exec[..], &["echo", "text"]].concat()).ok();
                assert_eq!(out.text(), "text", "{point}");
                bed.ctr(&["task", "kill", "--signal", "SIGKILL", &id]).ok();
                bed.until_stopped(&id);
            }
            "is gone" => assert!(matches!(status().as_deref(), None | Some("STOPPED")), "{point}"),
            _ => {}
        }
        bed.ctr(&["task", "kill", "--signal", "SIGKILL", &id]);
        forget(bed, &id, point);
        bed.assert_clean();
    }
    runs(bed);
}

/// A container's life until its containerd is gone.
fn interrupted(bed: &Bed, id: &str) {
    let fifos = bed.dir().join("execs").display().to_string();
    let steps: [&dyn Fn() -> bool; 4] = [
        &|| bed.run("a").try_detached(&["sleep", "1000"]).code == 0,
        &|| {
            let exec = ["task", "exec", "--fifo-dir", &fifos, "--exec-id", "exec", id, "true"];
            bed.ctr(&exec).code == 0
        },
        &|| {
            let killed = bed.ctr(&["task", "kill", "--signal", "SIGKILL", id]).code == 0;
            bed.until_stopped(id);
            killed
        },
        &|| bed.ctr(&["task", "delete", id]).code == 0,
    ];
    // The one that fails is the one that was interrupted.
    let _ = steps.iter().all(|step| step());
}

fn each(bed: &Bed, points: &[&str]) {
    for point in points {
        bed.kill_at(point);
        let id = live(bed);
        assert!(bed.was_killed(), "nothing came by {point:?}");
        forget(bed, &id, point);
        // Of a start that failed containerd has nothing cleaned up: a socket
        // that it leaves is the next start's to remove.
        if point.starts_with("bootstrap: ") {
            runs(bed);
        }
        bed.assert_clean();
    }
    runs(bed);
}

/// As good as new, whatever was left and cleaned up.
fn runs(bed: &Bed) {
    assert_eq!(bed.run("a").shell("echo text").ok().text(), "text");
}

/// A container's life, with every call in it, until the shim is killed. That
/// calls to a dead shim are answered is all that is asked of them here.
fn live(bed: &Bed) -> String {
    let id = bed.id("a");
    let rpc = bed.rpc(&id);
    let exec = rpc.exec("exec");
    let process = json!({
        "args": ["cat"], "cwd": "/", "terminal": true, "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 }
    });
    let steps: [(&str, &dyn Fn()); 15] = [
        ("run", &|| drop(bed.run("a").try_detached(&["sleep", "1000"]))),
        ("State", &|| drop(rpc.state())),
        ("Connect", &|| drop(rpc.connect())),
        ("Exec", &|| drop(exec.add(&exec.request(&process)))),
        ("Start", &|| drop(exec.start())),
        ("ResizePty", &|| drop(exec.resize(80, 25))),
        ("Pids", &|| drop(rpc.pids())),
        ("Stats", &|| drop(rpc.stats())),
        ("Update", &|| drop(rpc.update(&json!({ "pids": { "limit": 100 } })))),
        ("Pause", &|| drop(rpc.pause())),
        ("Resume", &|| drop(rpc.resume())),
        ("CloseIO", &|| drop(exec.close_stdin())),
        ("kill", &|| drop(bed.ctr(&["task", "kill", "--signal", "SIGKILL", &id]))),
        ("wait", &|| drop(rpc.wait())),
        ("delete", &|| drop(bed.ctr(&["task", "delete", &id]))),
    ];
    for (step, call) in steps {
        let since = Instant::now();
        call();
        if bed.was_killed() {
            let took = since.elapsed();
            assert!(took < patience(LIMIT), "{step} was answered after {took:?}");
            break;
        }
    }
    id
}

/// What a client does who has lost a task: containerd has seen its end, deletes
/// what it knows of it, and then the container.
fn forget(bed: &Bed, id: &str, point: &str) {
    until("containerd has seen it", LIMIT, || match bed.task_status(id).as_deref() {
        Some("RUNNING" | "CREATED" | "PAUSED") => None,
        _ => Some(()),
    });
    for words in [&["task", "delete", "--force", id][..], &["container", "delete", id]] {
        let out = bed.ctr(words);
        let gone = out.errors().contains("not found");
        assert!(out.code == 0 || gone, "{point}: {words:?}: {}", out.errors());
    }
}
