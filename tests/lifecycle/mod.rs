//! Create, start, kill, delete: in order, out of order, at once, and again.

use std::thread;
use std::time::Duration;

use sandbox_tests::{Bed, Process, Shim, code, in_lab, spec, tests};
use ttrpc::Code;

tests![
    Any an_id_can_be_used_again_at_once,
    Any cycles_leave_no_file_descriptor_mount_or_zombie,
    Any start_and_delete_cannot_be_done_twice,
    Any create_then_delete_without_start,
    Any events_come_once_and_in_order,
    Any twenty_starts_at_once_start_one_process,
    Any kill_during_start_and_delete_during_kill,
    Any four_containers_at_once,
    Any ten_containers_in_a_row,
    Any a_running_container_is_not_deleted,
    Ours stale_files_of_a_dead_sandbox_do_not_matter,
];

fn sleeping(bed: &Bed, name: &str) -> Shim {
    let shim = bed.shim(name, spec(&["sleep", "1000"]));
    shim.create(&shim.request(bed.rootfs(name))).unwrap();
    shim
}

fn finish(shim: Shim) {
    let _ = shim.rpc().kill(9, true);
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    shim.shutdown();
}

/// R21: Start twice is an error, and so is Delete twice: NotFound.
fn start_and_delete_cannot_be_done_twice(bed: &Bed) {
    let shim = sleeping(bed, "a");
    let again = shim.create(&shim.request(bed.dir().join("rootfs-a")));
    assert!(again.is_err(), "Create twice");
    shim.rpc().start().unwrap();
    assert!(shim.rpc().start().is_err(), "Start twice");
    let state = shim.rpc().state().unwrap();
    assert_eq!(state.status.value(), 2, "RUNNING after the refused calls");
    shim.rpc().kill(9, false).unwrap();
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    let error = shim.rpc().delete().unwrap_err();
    assert_eq!(code(&error), Some(Code::NOT_FOUND), "{error}");
    let error = shim.rpc().start().unwrap_err();
    assert_eq!(code(&error), Some(Code::NOT_FOUND), "{error}");
    shim.shutdown();
}

fn create_then_delete_without_start(bed: &Bed) {
    let shim = sleeping(bed, "a");
    assert_eq!(shim.rpc().state().unwrap().status.value(), 1, "CREATED is 1");
    shim.rpc().delete().unwrap();
    shim.shutdown();
}

/// R27 and the contract of shims: exit never overtakes start, and comes once.
fn events_come_once_and_in_order(bed: &Bed) {
    let shim = bed.shim("a", spec(&["true"]));
    shim.create(&shim.request(bed.rootfs("a"))).unwrap();
    shim.rpc().start().unwrap();
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    let expected = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"];
    sandbox_tests::until("four events", Duration::from_secs(5), || {
        (shim.topics().len() >= expected.len()).then_some(())
    });
    assert_eq!(shim.topics(), expected);
    shim.shutdown();
}

/// R22: of many Starts at once, one is right.
fn twenty_starts_at_once_start_one_process(bed: &Bed) {
    let shim = sleeping(bed, "a");
    let started = thread::scope(|scope| {
        let calls: Vec<_> = (0..20).map(|_| scope.spawn(|| shim.rpc().start().is_ok())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).filter(|ok| *ok).count()
    });
    assert_eq!(started, 1, "Starts that succeeded");
    let machines = Process::below(std::process::id().try_into().unwrap());
    let machines = machines.iter().filter(|p| {
        p.program().starts_with("qemu") || p.arguments().get(1).is_some_and(|word| word == "kvm")
    });
    assert!(machines.count() <= 1, "more than one virtual machine");
    finish(shim);
}

/// R23: whatever wins, the end is the same: nothing left.
fn kill_during_start_and_delete_during_kill(bed: &Bed) {
    let shim = sleeping(bed, "a");
    thread::scope(|scope| {
        scope.spawn(|| shim.rpc().start());
        scope.spawn(|| shim.rpc().kill(9, true));
    });
    // If the signal came before the process was there to take it.
    let _ = shim.rpc().kill(9, true);
    thread::scope(|scope| {
        scope.spawn(|| shim.rpc().delete());
        scope.spawn(|| shim.rpc().kill(9, true));
        scope.spawn(|| shim.rpc().wait());
    });
    let _ = shim.rpc().delete();
    let error = shim.rpc().state().unwrap_err();
    assert_eq!(code(&error), Some(Code::NOT_FOUND), "{error}");
    shim.shutdown();
}

fn four_containers_at_once(bed: &Bed) {
    bed.start_containerd();
    thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let line = format!("echo I am {number}; exit {number}");
                let out = bed.run(&format!("n{number}")).shell(&line).exits(number);
                assert_eq!(out.text(), format!("I am {number}"));
            });
        }
    });
}

fn ten_containers_in_a_row(bed: &Bed) {
    for number in 0..10 {
        let out = bed.run(&format!("n{number}")).foreground(&["echo", &number.to_string()]).ok();
        assert_eq!(out.text(), number.to_string());
    }
}

/// Rounds of a test that needs many: the requirement's own number, but for the
/// lab, where a hypervisor is emulated.
fn rounds(full: usize) -> usize {
    if in_lab() { full / 10 } else { full }
}

/// R25: 50 times; 5 in the lab.
fn an_id_can_be_used_again_at_once(bed: &Bed) {
    for round in 0..rounds(50) {
        bed.run("same")
            .foreground(&["sh", "-c", &format!("exit {}", round % 3)])
            .exits(round as i32 % 3);
    }
}

/// R26: after the first, no round adds anything to containerd or the host.
/// 20 rounds; 2 in the lab.
fn cycles_leave_no_file_descriptor_mount_or_zombie(bed: &Bed) {
    let measure = || {
        let containerd = Process::read(bed.containerd_pid().unwrap()).unwrap();
        bed.assert_clean();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let of_bed =
            mounts.lines().filter(|line| line.contains(bed.dir().to_str().unwrap())).count();
        (of_bed, containerd.open_files(), containerd.field("status", "VmRSS").unwrap())
    };
    let cycle = |name: &str| {
        let id = bed.run(name).detached(&["sleep", "1000"]);
        bed.remove(&id);
    };
    // containerd keeps a few connections and buffers from its first tasks.
    (0..2).for_each(|n| cycle(&format!("warm{n}")));
    let before = measure();
    (0..rounds(20)).for_each(|n| cycle(&format!("n{n}")));
    let after = measure();
    assert_eq!(after.0, before.0, "mounts");
    assert!(
        after.1 <= before.1 + 3,
        "open files of containerd: {} before, {} after",
        before.1,
        after.1
    );
    assert!(
        after.2 < before.2 + (16 << 10),
        "KiB of containerd: {} before, {} after",
        before.2,
        after.2
    );
}

fn a_running_container_is_not_deleted(bed: &Bed) {
    let shim = sleeping(bed, "a");
    shim.rpc().start().unwrap();
    assert!(shim.rpc().delete().is_err(), "Delete of a running task");
    assert_eq!(shim.rpc().state().unwrap().status.value(), 2, "RUNNING");
    finish(shim);
}

/// R35, R37: sockets, state that is empty or cut short, a folder that nobody
/// can read: a new sandbox of that name starts, others are not disturbed.
fn stale_files_of_a_dead_sandbox_do_not_matter(bed: &Bed) {
    use sha2::{Digest, Sha256};
    for (name, state) in [("empty", ""), ("cut", "{\"version\":1,\"po"), ("none", "-")] {
        let digest = Sha256::digest(format!("default/{}", bed.id(name)));
        let folder: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let dir = bed.state_dir().join(folder);
        std::fs::create_dir_all(dir.join("vsock")).unwrap();
        if state != "-" {
            std::fs::write(dir.join("state.json"), state).unwrap();
        }
        // A socket that nobody listens to any more.
        drop(std::os::unix::net::UnixListener::bind(dir.join("vsock/vsock.sock")).unwrap());
        assert_eq!(bed.run(name).foreground(&["echo", "up"]).ok().text(), "up");
    }
}
