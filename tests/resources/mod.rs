//! Pause and resume, limits that change, and what was used.

use std::time::Duration;

use sandbox_tests::{Bed, Shim, code, exec, mount, spec, tests, until};
use serde_json::{Value, json};
use ttrpc::Code;

tests![
    Any a_paused_container_stands_still,
    Ours a_paused_container_can_be_asked_and_killed,
    Ours limits_change_while_it_runs,
    Ours limits_that_cannot_be,
    Ours what_was_used_is_told_until_delete,
    Ours want_of_memory_is_told_at_once,
];

fn with_cgroup(words: &[&str]) -> Value {
    let mut spec = spec(words);
    let at = mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    spec["mounts"].as_array_mut().unwrap().push(at);
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    spec["linux"]["resources"]["pids"] = json!({"limit": 100});
    spec
}

fn started(bed: &Bed, spec: Value) -> Shim {
    let shim = bed.shim("a", spec);
    shim.create(&shim.request(bed.rootfs("a"))).unwrap();
    shim.rpc().start().unwrap();
    shim
}

fn finish(shim: Shim) {
    let _ = shim.rpc().kill(9, true);
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    shim.shutdown();
}

fn status(error: ttrpc::Error) -> Code {
    code(&error).unwrap_or_else(|| panic!("not a status: {error}"))
}

/// By `ctr`: a file that grows stands still, and grows again.
fn a_paused_container_stands_still(bed: &Bed) {
    let line = "while :; do echo x >>/tmp/grows; done";
    let id = bed.run("a").detached(&["sh", "-c", line]);
    // The first exec may run before the loop has made the file.
    let stat = "touch /tmp/grows; stat -c %s /tmp/grows";
    let size = || {
        let mut command = bed.ctr_command();
        command.args(["task", "exec", "--exec-id", "x", &id, "sh", "-c", stat]);
        exec(&mut command, &[]).ok().text().parse::<u64>().unwrap()
    };
    until("it grows", Duration::from_secs(20), || (size() > 0).then_some(()));
    bed.ctr(&["task", "pause", &id]).ok();
    assert_eq!(bed.task_status(&id).as_deref(), Some("PAUSED"));
    bed.ctr(&["task", "resume", &id]).ok();
    assert_eq!(bed.task_status(&id).as_deref(), Some("RUNNING"));
    let before = size();
    until("it grows again", Duration::from_secs(20), || (size() > before).then_some(()));
    bed.remove(&id);
}

/// State and Stats answer; what needs a process that runs is refused; the
/// counter in the cgroup says that it has stood still.
fn a_paused_container_can_be_asked_and_killed(bed: &Bed) {
    let shim = started(bed, with_cgroup(&["sh", "-c", "while :; do :; done"]));
    let rpc = shim.rpc();
    assert_eq!(status(rpc.resume().unwrap_err()), Code::FAILED_PRECONDITION, "it runs");
    rpc.pause().unwrap();
    assert_eq!(rpc.state().unwrap().status.value(), 4, "PAUSED is 4");
    assert_eq!(status(rpc.pause().unwrap_err()), Code::FAILED_PRECONDITION, "twice");
    assert_eq!(status(rpc.delete().unwrap_err()), Code::FAILED_PRECONDITION, "delete");
    let process = spec(&["true"])["process"].clone();
    let refused = rpc.exec("x").run(&process).unwrap_err();
    assert_eq!(status(refused), Code::FAILED_PRECONDITION, "exec");
    let used = rpc.stats().unwrap().cpu.usage_usec;
    assert_eq!(rpc.stats().unwrap().cpu.usage_usec, used, "it used CPU while it was paused");
    rpc.resume().unwrap();
    until("it goes on", Duration::from_secs(20), || {
        (rpc.stats().unwrap().cpu.usage_usec > used).then_some(())
    });
    rpc.pause().unwrap();
    rpc.kill(9, false).unwrap();
    assert_eq!(rpc.wait().unwrap().exit_status, 137);
    assert_eq!(rpc.state().unwrap().status.value(), 3, "STOPPED is 3");
    assert_eq!(status(rpc.pause().unwrap_err()), Code::FAILED_PRECONDITION, "it has ended");
    rpc.delete().unwrap();
    let expected = [
        "/tasks/create",
        "/tasks/start",
        "/tasks/paused",
        "/tasks/resumed",
        "/tasks/paused",
        "/tasks/exit",
        "/tasks/delete",
    ];
    until("the events", Duration::from_secs(5), || {
        (shim.topics().len() >= expected.len()).then_some(())
    });
    assert_eq!(shim.topics(), expected);
    shim.shutdown();
}

/// What the container reads of its own limits.
fn inside(bed: &Bed, shim: &Shim, name: &str) -> String {
    let line = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.weight cpu.max >/tmp/limits";
    let rpc = shim.rpc().exec(name);
    rpc.run(&spec(&["sh", "-c", line])["process"]).unwrap();
    assert_eq!(rpc.wait().unwrap().exit_status, 0);
    rpc.delete().unwrap();
    std::fs::read_to_string(bed.dir().join("rootfs-a/tmp/limits")).unwrap()
}

fn limits_change_while_it_runs(bed: &Bed) {
    let shim = started(bed, with_cgroup(&["sleep", "1000"]));
    assert_eq!(inside(bed, &shim, "a"), "67108864\n100\n100\nmax 100000\n");
    let resources = json!({
        "memory": {"limit": 48 << 20},
        "pids": {"limit": 50},
        "cpu": {"shares": 2048, "quota": 50_000, "period": 100_000}
    });
    shim.rpc().update(&resources).unwrap();
    assert_eq!(inside(bed, &shim, "b"), "50331648\n50\n79\n50000 100000\n");
    let stats = shim.rpc().stats().unwrap();
    assert_eq!((stats.memory.usage_limit, stats.pids.limit), (48 << 20, 50));
    finish(shim);
}

/// Each is refused as a whole, and says why.
fn limits_that_cannot_be(bed: &Bed) {
    let shim = started(bed, with_cgroup(&["sleep", "1000"]));
    let rpc = shim.rpc();
    let before = inside(bed, &shim, "a");
    for (resources, word) in [
        (json!({"pids": {"limit": 9}, "memory": {"limit": 1_i64 << 40}}), "memory_mib"),
        (json!({"pids": {"limit": 9}, "cpu": {"quota": 100_000_000}}), "vcpus"),
        (json!({"pids": {"limit": 9}, "cpu": {"cpus": "0-9999"}}), "cpuset.cpus"),
        (json!({"pids": {"limit": 9}, "unified": {"../pids.max": "1"}}), "unified"),
        (json!({"pids": 7}), "resources"),
    ] {
        let error = rpc.update(&resources).unwrap_err().to_string();
        assert!(error.contains(word), "{resources}: {error}");
    }
    let good = rpc.update_request(&json!({}));
    let mut none = good.clone();
    none.resources = None.into();
    let mut unknown = good.clone();
    unknown.resources.mut_or_insert_default().type_url = "example.com/Resources".into();
    let mut large = good;
    large.resources.mut_or_insert_default().value = vec![b' '; 64 * 1024 + 1];
    for request in [&none, &unknown, &large] {
        let refused = rpc.call::<_, containerd_shim_protos::api::Empty>("Update", request);
        assert_eq!(status(refused.unwrap_err()), Code::INVALID_ARGUMENT);
    }
    assert_eq!(inside(bed, &shim, "b"), before);
    finish(shim);
}

fn what_was_used_is_told_until_delete(bed: &Bed) {
    let line = "head -c 8388608 /dev/zero >/dev/shm/f; i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; sleep 1000";
    let shim = started(bed, with_cgroup(&["sh", "-c", line]));
    let rpc = shim.rpc();
    let stats = until("8 MiB in use", Duration::from_secs(20), || {
        rpc.stats().ok().filter(|stats| stats.memory.shmem >= 8 << 20)
    });
    assert!(stats.memory.usage >= 8 << 20, "{}", stats.memory.usage);
    assert!(stats.memory.psi.is_some() && stats.cpu.psi.is_some() && stats.io.psi.is_some());
    assert!(stats.cpu.usage_usec > 0 && stats.pids.current >= 1);
    assert_eq!((stats.memory.usage_limit, stats.pids.limit), (64 << 20, 100));
    assert!(stats.memory_events.is_some());
    rpc.kill(9, true).unwrap();
    rpc.wait().unwrap();
    let after = rpc.stats().unwrap();
    assert!(after.cpu.usage_usec >= stats.cpu.usage_usec);
    assert_eq!(after.pids.current, 0);
    rpc.delete().unwrap();
    assert_eq!(status(rpc.stats().unwrap_err()), Code::NOT_FOUND);
    shim.shutdown();
}

/// The victim is not the first process, which goes on.
fn want_of_memory_is_told_at_once(bed: &Bed) {
    let line = "toolbox eat 200; echo the child died of $? >/tmp/out; sleep 1000";
    let mut spec = with_cgroup(&["sh", "-c", line]);
    spec["linux"]["resources"]["memory"] = json!({"limit": 32 << 20});
    let shim = started(bed, spec);
    until("the event", Duration::from_secs(30), || {
        shim.topics().iter().any(|topic| topic == "/tasks/oom").then_some(())
    });
    assert_eq!(shim.rpc().state().unwrap().status.value(), 2, "RUNNING is 2");
    let events = shim.rpc().stats().unwrap().memory_events;
    assert!(events.oom_kill >= 1, "{events:?}");
    finish(shim);
}
