//! Something dies: what the client sees, and that nothing is left.

pub mod points;

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox_tests::{Bed, Process, Shim, patience, spec, tests, until};
use serde_json::json;

tests![
    Any containerd_killed_and_started_again,
    Ours containerd_stands_still_for_a_minute,
    Ours containerd_is_away_for_a_minute,
    Ours the_shim_killed,
    Ours the_machine_killed,
    Ours the_io_process_killed,
    Ours the_fs_process_killed,
    Ours the_guest_kernel_panics,
    Ours the_agent_crashes,
    Ours the_guest_reboots,
    Ours the_first_process_exits_while_others_run,
    Ours a_pod_in_trouble_does_not_disturb_another,
];

/// How long containerd stands still: longer than anybody's patience.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Time within which a failure must have become a defined state.
const LIMIT: Duration = Duration::from_secs(5);

/// What ends with its sandbox exits with this.
const LOST: u32 = 137;

fn sleeping(bed: &Bed, name: &str) -> Shim {
    let shim = bed.shim(name, spec(&["sleep", "1000"]));
    shim.create(&shim.request(bed.rootfs(name))).unwrap();
    shim.rpc().start().unwrap();
    shim
}

/// The process of a sandbox that plays this part.
fn part(shim: &Shim, is: impl Fn(&Process) -> bool) -> Process {
    let all = shim.processes();
    let shown: Vec<_> = all.iter().map(Process::arguments).collect();
    all.into_iter().find(is).unwrap_or_else(|| panic!("not among {shown:?}"))
}

fn subcommand(name: &'static str) -> impl Fn(&Process) -> bool {
    move |process| process.arguments().get(1).is_some_and(|word| word == name)
}

/// What runs the machine: our own VMM, or QEMU.
fn machine(process: &Process) -> bool {
    process.program().starts_with("qemu") || subcommand("kvm")(process)
}

/// R20, R27: the task's end is seen in time, once, and as a defined code;
/// after Delete nothing is left.
fn ends(shim: Shim, since: Instant, how: &str) {
    let exit = shim.rpc().wait().unwrap();
    let took = since.elapsed();
    assert!(took < patience(LIMIT), "{how}: seen after {took:?}");
    assert_eq!(exit.exit_status, LOST, "{how}");
    assert_eq!(shim.rpc().state().unwrap().status.value(), 3, "{how}: STOPPED is 3");
    shim.rpc().delete().unwrap();
    let expected = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"];
    until("the last event", LIMIT, || (shim.topics().len() >= expected.len()).then_some(()));
    assert_eq!(shim.topics(), expected, "{how}");
    shim.shutdown();
}

fn kill_part(bed: &Bed, how: &str, is: impl Fn(&Process) -> bool) {
    let shim = sleeping(bed, "a");
    let victim = part(&shim, is);
    let since = Instant::now();
    victim.kill();
    ends(shim, since, how);
}

fn the_machine_killed(bed: &Bed) {
    kill_part(bed, "machine killed", machine);
}

fn the_io_process_killed(bed: &Bed) {
    kill_part(bed, "io killed", subcommand("io"));
}

fn the_fs_process_killed(bed: &Bed) {
    kill_part(bed, "fs killed", subcommand("fs"));
}

/// R33: containerd sees the task's end when its shim is gone, and has the
/// shim's binary clean up what is left.
fn the_shim_killed(bed: &Bed) {
    let id = bed.run("a").detached(&["sleep", "1000"]);
    let all = Process::below(std::process::id().try_into().unwrap());
    let shim =
        all.iter().find(|p| p.arguments().contains(&id) && p.program().contains("shim")).unwrap();
    shim.kill();
    until("containerd has seen it", LIMIT, || match bed.task_status(&id).as_deref() {
        Some("RUNNING" | "CREATED") => None,
        _ => Some(()),
    });
    // The task may be gone by now; the container is not.
    bed.ctr(&["task", "delete", "--force", &id]);
    bed.ctr(&["container", "delete", &id]).ok();
}

/// Events that come while containerd does not listen are told when it does: all
/// of them, once, and those of a pod in order.
fn containerd_stands_still_for_a_minute(bed: &Bed) {
    const ALL: [&str; 3] = ["first", "second", "third"];
    let flags = bed.dir().join("flags");
    std::fs::create_dir(&flags).unwrap();
    let mount = format!("--mount=type=bind,src={},dst=/flags,options=rbind:rw", flags.display());
    let until_flag = |flag: &str| format!("while ! test -e /flags/{flag}; do usleep 50000; done");
    let ids = ALL.map(|name| {
        let line = until_flag(name);
        let id = bed.run(name).flags(std::slice::from_ref(&mount)).detached(&["sh", "-c", &line]);
        let line = until_flag(&format!("{name}-exec"));
        // What exec detaches from, ctr leaves there.
        let fifos = bed.dir().join("fifos").display().to_string();
        let exec = ["task", "exec", "--detach", "--fifo-dir", &fifos, "--exec-id", "exec"];
        let exec = [&exec[..], &[&id, "sh", "-c", &line]].concat();
        bed.ctr(&exec).ok();
        id
    });
    let told = bed.dir().join("told");
    let file = std::fs::File::create(&told).unwrap();
    let mut events = bed.ctr_command().arg("events").stdout(file).spawn().unwrap();
    let told = || std::fs::read_to_string(&told).unwrap();
    // Once one has come, the others will.
    until("events are told", LIMIT, || {
        bed.ctr(&["task", "pause", &ids[0]]).ok();
        bed.ctr(&["task", "resume", &ids[0]]).ok();
        told().contains("/tasks/resumed").then_some(())
    });

    let containerd = Pid::from_raw(bed.containerd_pid().unwrap());
    kill(containerd, Signal::SIGSTOP).unwrap();
    for flag in ALL.iter().flat_map(|name| [format!("{name}-exec"), (*name).to_owned()]) {
        std::fs::write(flags.join(flag), "").unwrap();
        // What is next ends after this.
        std::thread::sleep(STANDSTILL / 6);
    }
    let before = told();
    kill(containerd, Signal::SIGCONT).unwrap();
    assert!(!before.contains("/tasks/exit"), "{before}");
    for id in &ids {
        bed.until_stopped(id);
    }
    // What is told last comes behind what would be told twice.
    for id in &ids {
        bed.ctr(&["task", "delete", id]).ok();
        bed.ctr(&["container", "delete", id]).ok();
    }
    until("the last event", LIMIT, || {
        (told().matches("/tasks/delete").count() >= ids.len()).then_some(())
    });
    events.kill().unwrap();
    events.wait().unwrap();
    let told = told();
    for id in &ids {
        let of = |line: &&str| line.contains("/tasks/exit") && line.contains(id.as_str());
        let exits: Vec<_> = told.lines().filter(of).collect();
        let who = ["\"id\":\"exec\"".to_owned(), format!("\"id\":\"{id}\"")];
        assert_eq!(exits.len(), who.len(), "{id}: {told}");
        assert!(exits.iter().zip(&who).all(|(line, who)| line.contains(who)), "{id}: {told}");
    }
}

/// What happens while there is no containerd is told to the next: all of it, once
/// and in order.
fn containerd_is_away_for_a_minute(bed: &Bed) {
    let mut shim = sleeping(bed, "a");
    let before = ["/tasks/create", "/tasks/start"];
    until("the first events", LIMIT, || (shim.topics() == before).then_some(()));
    shim.without_containerd(STANDSTILL, |shim| {
        let rpc = shim.rpc();
        let exec = rpc.exec("exec");
        exec.run(&json!({
            "args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 }
        }))
        .unwrap();
        exec.wait().unwrap();
        exec.delete().unwrap();
        rpc.pause().unwrap();
        rpc.resume().unwrap();
        rpc.kill(9, false).unwrap();
        rpc.wait().unwrap();
        rpc.delete().unwrap();
        assert_eq!(shim.topics(), before);
    });
    let after = [
        "/tasks/exec-added",
        "/tasks/exec-started",
        "/tasks/exit",
        "/tasks/paused",
        "/tasks/resumed",
        "/tasks/exit",
        "/tasks/delete",
    ];
    let all = [&before[..], &after].concat();
    until("the last event", LIMIT, || (shim.topics().len() >= all.len()).then_some(()));
    assert_eq!(shim.topics(), all);
    shim.shutdown();
    // A second one of any would have come before the end.
}

/// R34: the container lives on, its end is not lost.
fn containerd_killed_and_started_again(bed: &Bed) {
    let lives = bed.run("lives").detached(&["sleep", "1000"]);
    let file = bed.dir().join("go");
    std::fs::create_dir(&file).unwrap();
    let flag = format!("--mount=type=bind,src={},dst=/go,options=rbind:rw", file.display());
    let line = "while ! test -e /go/now; do usleep 50000; done; exit 9";
    let ends = bed.run("ends").flags(&[flag]).detached(&["sh", "-c", line]);
    bed.kill_containerd();
    // Its exit falls into the time without containerd.
    std::fs::write(file.join("now"), "").unwrap();
    bed.start_containerd();
    assert_eq!(bed.task_status(&lives).as_deref(), Some("RUNNING"));
    bed.until_stopped(&ends);
    let deleted = bed.ctr(&["task", "delete", &ends]);
    assert!(deleted.code == 9 || deleted.errors().contains('9'), "{deleted:?}");
    bed.ctr(&["container", "delete", &ends]).ok();
    bed.ctr(&["task", "kill", "--signal", "SIGKILL", &lives]).ok();
    bed.until_stopped(&lives);
    bed.remove(&lives);
}

/// A container with every capability in the guest's own PID namespace: what
/// the guest kernel's or the agent's fault would be to the host.
fn privileged(bed: &Bed, name: &str, line: &str) -> Shim {
    let mut spec = spec(&["sh", "-c", line]);
    let every: Vec<String> =
        ["SYS_ADMIN", "SYS_PTRACE", "SYS_BOOT", "KILL", "DAC_OVERRIDE", "SYS_RAWIO"]
            .iter()
            .map(|name| format!("CAP_{name}"))
            .collect();
    spec["process"]["capabilities"] =
        json!({ "bounding": every, "effective": every, "permitted": every });
    spec["process"]["noNewPrivileges"] = json!(false);
    spec["linux"]["namespaces"] =
        json!([{ "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" }]);
    spec["annotations"] = json!({ "io.sandbox.memory_mib": "128" });
    let shim = bed.shim(name, spec);
    shim.create(&shim.request(bed.rootfs(name))).unwrap();
    shim
}

/// R28: a panic of the guest's kernel.
fn the_guest_kernel_panics(bed: &Bed) {
    // Where the kernel has no SysRq: out of memory, with panic_on_oom set.
    let line = "echo 2 >/proc/sys/vm/panic_on_oom; echo c >/proc/sysrq-trigger; toolbox eat 1000";
    let shim = privileged(bed, "a", line);
    let since = Instant::now();
    shim.rpc().start().unwrap();
    ends(shim, since, "guest panic");
}

/// R20: a fault in the agent, which is the guest's init.
fn the_agent_crashes(bed: &Bed) {
    let shim = privileged(bed, "a", "toolbox crash-init; sleep 1000");
    let since = Instant::now();
    shim.rpc().start().unwrap();
    ends(shim, since, "agent crash");
}

/// R28: reboot(2) ends the guest, and does not start it again.
fn the_guest_reboots(bed: &Bed) {
    let shim = privileged(bed, "a", "toolbox reboot; sleep 1000");
    let since = Instant::now();
    shim.rpc().start().unwrap();
    ends(shim, since, "guest reboot");
}

/// R28: the exit of the first process is the exit, 0 and 1.
fn the_first_process_exits_while_others_run(bed: &Bed) {
    for code in [0, 1] {
        let line = format!("setsid sleep 1000 & exit {code}");
        bed.run(&format!("e{code}")).shell(&line).exits(code);
    }
}

/// R37: one sandbox's state is destroyed, its neighbour runs on.
fn a_pod_in_trouble_does_not_disturb_another(bed: &Bed) {
    let (sick, well) = (sleeping(bed, "sick"), sleeping(bed, "well"));
    for entry in std::fs::read_dir(bed.state_dir()).unwrap().map(Result::unwrap) {
        let state = entry.path().join("state.json");
        if std::fs::read_to_string(&state).is_ok_and(|text| text.contains(&bed.id("sick"))) {
            std::fs::write(&state, "{").unwrap();
        }
    }
    let since = Instant::now();
    part(&sick, machine).kill();
    ends(sick, since, "machine killed, state cut short");
    assert_eq!(well.rpc().state().unwrap().status.value(), 2, "RUNNING");
    well.rpc().kill(9, false).unwrap();
    assert_eq!(well.rpc().wait().unwrap().exit_status, 137);
    well.rpc().delete().unwrap();
    well.shutdown();
}
