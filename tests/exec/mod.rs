//! Processes that are run in a container beside its first.

pub mod order;

use std::fs::File;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use sandbox_tests::{
    Bed, Output, Process, Shim, code, exec, in_lab, open_reader, patience, spec, tests, until,
};
use serde_json::{Value, json};
use ttrpc::Code;

tests![
    Any a_hundred_execs_leave_nothing_behind,
    Any twenty_execs_at_once_beside_one_that_blocks,
    Any an_exec_has_streams_and_a_code_of_its_own,
    Any input_and_its_end,
    Ours an_input_that_ends_before_it_begins,
    Any user_folder_and_environment,
    Ours limits_and_privileges,
    Any the_filter_holds_for_execs,
    Any a_terminal_of_its_own,
    Any a_terminals_last_words_arrive,
    Ours programs_that_cannot_be_run,
    Any the_life_of_an_exec,
    Ours signals_reach_one_exec,
    Ours execs_end_with_their_container,
    Any pids_tell_of_execs,
    Ours requests_that_make_no_sense,
];

/// A container in which others are run, by `ctr`.
fn sleeper(bed: &Bed) -> String {
    bed.run("a").detached(&["sleep", "1000"])
}

/// `ctr task exec` with these flags.
fn ctr_exec(
    bed: &Bed,
    id: &str,
    exec_id: &str,
    flags: &[&str],
    words: &[&str],
    stdin: &[u8],
) -> Output {
    let mut command = bed.ctr_command();
    let fifos = bed.dir().join("fifo").display().to_string();
    command.args(["task", "exec", "--exec-id", exec_id, "--fifo-dir", &fifos]);
    command.args(flags).arg(id).args(words);
    exec(&mut command, stdin)
}

fn shell(bed: &Bed, id: &str, line: &str) -> Output {
    ctr_exec(bed, id, "x", &[], &["sh", "-c", line], &[])
}

/// R7, R10: one after another under the same exec id.
fn an_exec_has_streams_and_a_code_of_its_own(bed: &Bed) {
    let id = sleeper(bed);
    for number in [0, 1, 7, 126, 127, 255] {
        let out = shell(bed, &id, &format!("echo to-out; echo to-err >&2; exit {number}"));
        let out = out.exits(number);
        assert_eq!((out.text(), out.errors()), ("to-out".to_owned(), "to-err".to_owned()));
    }
    shell(bed, &id, "kill -9 $$").exits(137);
    // The same container: its files, its name, its processes.
    shell(bed, &id, "echo kept >/tmp/file").ok();
    assert_eq!(
        shell(bed, &id, "cat /tmp/file; tr '\\0' ' ' </proc/1/cmdline").ok().text(),
        "kept\nsleep 1000"
    );
    bed.remove(&id);
}

/// R9: what goes in comes out, and the end is seen once.
fn input_and_its_end(bed: &Bed) {
    let id = sleeper(bed);
    let data: Vec<u8> =
        (0..4 << 20).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let out = ctr_exec(bed, &id, "x", &[], &["cat"], &data).ok();
    assert!(out.stdout == data, "{} of {} bytes", out.stdout.len(), data.len());
    bed.remove(&id);
}

/// An end that was asked for before there is anything to end is remembered.
fn an_input_that_ends_before_it_begins(bed: &Bed) {
    let shim = started(bed);
    let rpc = shim.rpc().exec("x");
    let stdin = shim.fifo("in");
    let mut request = rpc.request(&process(&["cat"]));
    request.stdin = stdin.display().to_string();
    rpc.add(&request).unwrap();
    rpc.close_stdin().unwrap();
    rpc.start().unwrap();
    assert_eq!(rpc.wait().unwrap().exit_status, 0);
    rpc.delete().unwrap();
    finish(shim);
}

/// R18: user, folder, and R17: the environment is the container's.
fn user_folder_and_environment(bed: &Bed) {
    let id = bed.run("a").flags(&["--env", "COLOUR=blue"]).detached(&["sleep", "1000"]);
    let line = "id -u; id -g; pwd; echo $COLOUR; umask";
    let out = ctr_exec(
        bed,
        &id,
        "x",
        &["--user", "1000:1001", "--cwd", "/tmp"],
        &["sh", "-c", line],
        &[],
    );
    assert_eq!(out.ok().text(), "1000\n1001\n/tmp\nblue\n0022");
    assert_eq!(shell(bed, &id, "id -u; pwd").ok().text(), "0\n/");
    bed.remove(&id);
}

fn process(words: &[&str]) -> Value {
    spec(words)["process"].clone()
}

fn started(bed: &Bed) -> Shim {
    let shim = bed.shim("a", spec(&["sleep", "1000"]));
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

/// Runs a process to its end, and answers with its output.
fn output(shim: &Shim, name: &str, process: &Value) -> (u32, String) {
    let rpc = shim.rpc().exec(name);
    let out = shim.fifo(&format!("{name}-out"));
    let mut request = rpc.request(process);
    request.stdout = out.display().to_string();
    // runc's shim wants both.
    request.stderr = request.stdout.clone();
    let mut reader = open_reader(&out);
    rpc.add(&request).unwrap();
    rpc.start().unwrap();
    // Not before the shim has opened it, which would be its end.
    let text = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    let status = rpc.wait().unwrap().exit_status;
    rpc.delete().unwrap();
    (status, text.join().unwrap().trim().to_owned())
}

/// R18: limits, groups, capabilities, and no new privileges, of each exec.
fn limits_and_privileges(bed: &Bed) {
    let shim = started(bed);
    let line = "ulimit -n; id -G; umask; grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status | tr -d '[:blank:]'; cat /proc/self/oom_score_adj";
    let mut wanted = process(&["sh", "-c", line]);
    wanted["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256}]);
    wanted["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9, 10], "umask": 0o027});
    wanted["oomScoreAdj"] = json!(500);
    wanted["capabilities"] = json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"],
        "permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    let (status, text) = output(&shim, "x", &wanted);
    assert_eq!(status, 0);
    assert_eq!(
        text,
        "256\n8 9 10\n0027\nCapEff:0000000000000020\nCapBnd:0000000000000020\nNoNewPrivs:1\n500"
    );
    finish(shim);
}

/// The container's filter is that of its execs, with and without new
/// privileges.
fn the_filter_holds_for_execs(bed: &Bed) {
    let mut container = spec(&["sleep", "1000"]);
    container["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]
    });
    let shim = bed.shim("a", container);
    shim.create(&shim.request(bed.rootfs("a"))).unwrap();
    shim.rpc().start().unwrap();
    for (name, uid, no_new_privileges) in [("a", 0, true), ("b", 0, false), ("c", 7, false)] {
        let mut wanted =
            process(&["sh", "-c", "mkdir /tmp/d 2>&1; grep Seccomp: /proc/self/status"]);
        wanted["noNewPrivileges"] = json!(no_new_privileges);
        wanted["user"]["uid"] = json!(uid);
        let (_, text) = output(&shim, name, &wanted);
        assert!(text.contains("Operation not permitted"), "{name}: {text}");
        assert!(text.ends_with("Seccomp:\t2"), "{name}: {text}");
    }
    finish(shim);
}

/// A megabyte on a terminal, to the last byte, when Delete has returned.
fn a_terminals_last_words_arrive(bed: &Bed) {
    let shim = started(bed);
    let mut wanted = process(&["sh", "-c", "seq -s ' ' 200000"]);
    wanted["terminal"] = json!(true);
    for round in 0..3 {
        let rpc = shim.rpc().exec("x");
        let fifo = shim.fifo(&format!("out{round}"));
        let mut request = rpc.request(&wanted);
        request.terminal = true;
        request.stdout = fifo.display().to_string();
        let mut reader = open_reader(&fifo);
        rpc.add(&request).unwrap();
        rpc.start().unwrap();
        let told = thread::spawn(move || {
            let mut told = Vec::new();
            reader.read_to_end(&mut told).map(|_| told)
        });
        assert_eq!(rpc.wait().unwrap().exit_status, 0);
        let told = told.join().unwrap().unwrap();
        rpc.delete().unwrap();
        let end = &told[told.len().saturating_sub(30)..];
        assert_eq!(
            told.len(),
            1_288_896,
            "round {round} ends with {:?}",
            String::from_utf8_lossy(end)
        );
    }
    finish(shim);
}

/// R13: a terminal with the size that it was given before and after it began.
fn a_terminal_of_its_own(bed: &Bed) {
    let shim = started(bed);
    let rpc = shim.rpc().exec("tty");
    let mut wanted = process(&["sh", "-c", "stty size; read line; stty size; tty; echo got $line"]);
    wanted["terminal"] = json!(true);
    let (stdin, stdout) = (shim.fifo("tty-in"), shim.fifo("tty-out"));
    let mut request = rpc.request(&wanted);
    request.terminal = true;
    (request.stdin, request.stdout) = (stdin.display().to_string(), stdout.display().to_string());
    let mut reader = open_reader(&stdout);
    let mut writer = File::options().read(true).write(true).open(&stdin).unwrap();
    rpc.add(&request).unwrap();
    rpc.start().unwrap();
    // Not before the shim has opened it, which would be its end.
    let text = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    rpc.resize(80, 24).unwrap();
    rpc.resize(132, 43).unwrap();
    writer.write_all(b"word\n").unwrap();
    assert_eq!(rpc.wait().unwrap().exit_status, 0);
    rpc.delete().unwrap();
    drop(writer);
    let text = text.join().unwrap();
    assert!(text.contains("43 132\r\n"), "{text:?}");
    assert!(text.contains("/dev/pts/"), "{text:?}");
    assert!(text.ends_with("got word\r\n"), "{text:?}");
    finish(shim);
}

/// The words are those that users of runc know.
fn programs_that_cannot_be_run(bed: &Bed) {
    let id = sleeper(bed);
    let missing = ctr_exec(bed, &id, "x", &[], &["no-such-program"], &[]);
    missing.fails_with(&["no-such-program", "executable file not found in $PATH"]);
    let missing = ctr_exec(bed, &id, "x", &[], &["/no/such/program"], &[]);
    missing.fails_with(&["/no/such/program", "no such file or directory"]);
    ctr_exec(bed, &id, "x", &[], &["/tmp"], &[]).fails_with(&["/tmp", "is a directory"]);
    let folder = ctr_exec(bed, &id, "x", &["--cwd", "/no/such/folder"], &["true"], &[]);
    folder.fails_with(&["/no/such/folder", "no such file or directory"]);
    // The id is free again, and the container as it was.
    shell(bed, &id, "exit 3").exits(3);
    bed.remove(&id);
}

fn status(error: ttrpc::Error) -> Code {
    code(&error).unwrap_or_else(|| panic!("not a status: {error}"))
}

/// R19, R21: created, running, stopped; each call in its place.
fn the_life_of_an_exec(bed: &Bed) {
    let shim = started(bed);
    let rpc = shim.rpc().exec("x");
    assert_eq!(status(rpc.state().unwrap_err()), Code::NOT_FOUND);
    assert_eq!(status(rpc.start().unwrap_err()), Code::NOT_FOUND);
    assert_eq!(status(rpc.delete().unwrap_err()), Code::NOT_FOUND);
    let request = rpc.request(&process(&["sleep", "1000"]));
    rpc.add(&request).unwrap();
    assert_eq!(status(rpc.add(&request).unwrap_err()), Code::ALREADY_EXISTS);
    assert_eq!(rpc.state().unwrap().status.value(), 1, "CREATED is 1");
    assert!(rpc.start().unwrap().pid > 0);
    assert!(rpc.start().is_err(), "Start twice");
    assert_eq!(rpc.state().unwrap().status.value(), 2, "RUNNING is 2");
    assert!(rpc.delete().is_err(), "Delete of a process that runs");
    rpc.kill(15).unwrap();
    assert_eq!(rpc.wait().unwrap().exit_status, 143);
    assert_eq!(rpc.wait().unwrap().exit_status, 143, "again");
    let state = rpc.state().unwrap();
    assert_eq!((state.status.value(), state.exit_status), (3, 143), "STOPPED is 3");
    assert_eq!(status(rpc.kill(15).unwrap_err()), Code::NOT_FOUND);
    assert_eq!(rpc.delete().unwrap().exit_status, 143);
    assert_eq!(status(rpc.delete().unwrap_err()), Code::NOT_FOUND);
    // Never started, it can be deleted.
    rpc.add(&request).unwrap();
    rpc.delete().unwrap();
    let expected = [
        "/tasks/create",
        "/tasks/start",
        "/tasks/exec-added",
        "/tasks/exec-started",
        "/tasks/exit",
        "/tasks/exec-added",
    ];
    until("the events", Duration::from_secs(5), || {
        (shim.topics().len() >= expected.len()).then_some(())
    });
    assert_eq!(shim.topics(), expected);
    finish(shim);
}

/// R11: to one exec and to no other process.
fn signals_reach_one_exec(bed: &Bed) {
    let shim = started(bed);
    let (one, two) = (shim.rpc().exec("one"), shim.rpc().exec("two"));
    one.run(&process(&["sleep", "1000"])).unwrap();
    two.run(&process(&["sleep", "1000"])).unwrap();
    for signal in [0, 65, u32::MAX] {
        assert!(one.kill(signal).is_err(), "signal {signal}");
    }
    one.kill(34).unwrap();
    assert_eq!(one.wait().unwrap().exit_status, 128 + 34);
    assert_eq!(two.state().unwrap().status.value(), 2, "the other runs");
    assert_eq!(shim.rpc().state().unwrap().status.value(), 2, "the container runs");
    two.kill(9).unwrap();
    assert_eq!(two.wait().unwrap().exit_status, 137);
    finish(shim);
}

/// The exit of each comes before that of its container.
fn execs_end_with_their_container(bed: &Bed) {
    let shim = started(bed);
    let (one, two) = (shim.rpc().exec("one"), shim.rpc().exec("two"));
    one.run(&process(&["sleep", "1000"])).unwrap();
    two.run(&process(&["sh", "-c", "trap '' TERM INT HUP; sleep 1000"])).unwrap();
    shim.rpc().kill(9, false).unwrap();
    shim.rpc().wait().unwrap();
    assert_eq!(one.wait().unwrap().exit_status, 137);
    assert_eq!(two.wait().unwrap().exit_status, 137);
    let refused = shim.rpc().exec("three").run(&process(&["true"])).unwrap_err();
    assert_eq!(status(refused), Code::FAILED_PRECONDITION, "an exec in a stopped container");
    one.delete().unwrap();
    shim.rpc().delete().unwrap();
    assert_eq!(status(two.state().unwrap_err()), Code::NOT_FOUND);
    until("the events", Duration::from_secs(5), || {
        shim.topics().last().is_some_and(|last| last == "/tasks/delete").then_some(())
    });
    let exits = shim.topics().iter().filter(|topic| *topic == "/tasks/exit").count();
    assert_eq!(exits, 3, "{:?}", shim.topics());
    shim.shutdown();
}

/// Which of a container's processes is which exec.
fn pids_tell_of_execs(bed: &Bed) {
    let shim = started(bed);
    let rpc = shim.rpc().exec("x");
    rpc.run(&process(&["sleep", "1000"])).unwrap();
    let processes = shim.rpc().pids().unwrap().processes;
    assert_eq!(processes.len(), 2);
    let task = shim.rpc().state().unwrap().pid;
    assert!(processes.iter().any(|one| one.pid == task), "the first has the task's pid");
    let told: Vec<_> = processes.iter().filter_map(|one| one.info.as_ref()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].type_url, "containerd.runc.v1.ProcessDetails");
    assert_eq!(told[0].value, b"\x0a\x01x", "field 1: x");
    rpc.kill(9).unwrap();
    rpc.wait().unwrap();
    rpc.delete().unwrap();
    assert_eq!(shim.rpc().pids().unwrap().processes.len(), 1);
    finish(shim);
}

/// R15: while one exec blocks, many come and go, and calls are answered.
fn twenty_execs_at_once_beside_one_that_blocks(bed: &Bed) {
    let shim = started(bed);
    let blocked = shim.rpc().exec("blocked");
    blocked.run(&process(&["sleep", "1000"])).unwrap();
    thread::scope(|scope| {
        let calls: Vec<_> = (0..20u32)
            .map(|number| {
                let shim = &shim;
                scope.spawn(move || {
                    let line = format!("echo {number}; exit {number}");
                    output(shim, &format!("n{number}"), &process(&["sh", "-c", &line]))
                })
            })
            .collect();
        let before = Instant::now();
        shim.rpc().state().unwrap();
        // 50 ms on a machine of its own.
        assert!(before.elapsed() < patience(Duration::from_millis(500)), "{:?}", before.elapsed());
        for (number, call) in (0..).zip(calls) {
            assert_eq!(call.join().unwrap(), (number, number.to_string()));
        }
    });
    assert_eq!(blocked.state().unwrap().status.value(), 2, "RUNNING is 2");
    blocked.kill(9).unwrap();
    finish(shim);
}

/// R15: threads, open files, memory and processes of a pod are where they were.
fn a_hundred_execs_leave_nothing_behind(bed: &Bed) {
    // As many as are asked for: a thousand take minutes where a CPU is emulated.
    let asked = std::env::var("SANDBOX_TEST_EXECS").ok().map(|rounds| rounds.parse().unwrap());
    let rounds = asked.unwrap_or(if in_lab() { 10 } else { 100 });
    let shim = started(bed);
    let held = || {
        let all = shim.processes();
        let files = all.iter().map(Process::open_files).sum::<usize>() as u64;
        let threads: u64 = all.iter().filter_map(|one| one.field("status", "Threads")).sum();
        // The guest's memory is shared, and QEMU's own is that of translations.
        let ours = all.iter().filter(|one| !one.program().starts_with("qemu"));
        let memory: u64 = ours.filter_map(|one| one.field("status", "RssAnon")).sum();
        (all.len(), files, threads, memory)
    };
    let run = |name: &str| {
        assert_eq!(output(&shim, name, &process(&["echo", "x"])), (0, "x".into()));
    };
    // What is only made once is there afterwards.
    (0..rounds / 10).for_each(|number| run(&format!("first{number}")));
    let before = held();
    (0..rounds).for_each(|number| run(&format!("n{number}")));
    // Some are made late, once; each exec that left one of anything would make
    // it `rounds` more. Threads of pools end when they have been idle for a while.
    let slack = rounds / 2;
    let end = Instant::now() + patience(Duration::from_secs(30));
    loop {
        let now = held();
        let fits = now.0 <= before.0 && now.1 < before.1 + slack && now.2 < before.2 + slack;
        if fits {
            break;
        }
        assert!(Instant::now() < end, "processes, files, threads: {before:?}, then {now:?}");
        thread::sleep(Duration::from_millis(100));
    }
    let grown = held().3.saturating_sub(before.3);
    // KiB; the allocator's own ups and downs are some hundred.
    assert!(grown < 10 * rounds + 1024, "{grown} KiB more than {before:?} after {rounds} execs");
    assert_eq!(shim.rpc().pids().unwrap().processes.len(), 1);
    finish(shim);
}

/// Each is refused, and the container goes on.
fn requests_that_make_no_sense(bed: &Bed) {
    let shim = started(bed);
    let rpc = shim.rpc().exec("x");
    let good = rpc.request(&process(&["true"]));
    let mut none = good.clone();
    none.spec = None.into();
    let mut unknown = good.clone();
    unknown.spec.mut_or_insert_default().type_url = "example.com/Process".into();
    let mut garbage = good.clone();
    garbage.spec.mut_or_insert_default().value = b"{\"args\": 7".to_vec();
    let mut large = good.clone();
    large.spec.mut_or_insert_default().value = vec![b' '; 3 << 20 | 1];
    for request in [&none, &unknown, &garbage, &large] {
        assert_eq!(status(rpc.add(request).unwrap_err()), Code::INVALID_ARGUMENT);
    }
    // What only the guest can tell is told by Start.
    for (field, value) in [("args", json!([])), ("cwd", json!("relative"))] {
        let mut wanted = process(&["true"]);
        wanted[field] = value;
        let added = rpc.add(&rpc.request(&wanted));
        if added.is_ok() {
            rpc.start().unwrap_err();
            rpc.delete().unwrap();
        }
    }
    let (missing, folder) = (bed.dir().join("missing"), bed.dir());
    for stdout in [missing.as_path(), folder] {
        let mut request = good.clone();
        request.stdout = stdout.display().to_string();
        if rpc.add(&request).is_ok() {
            rpc.start().unwrap_err();
            rpc.delete().unwrap();
        }
    }
    rpc.run(&process(&["true"])).unwrap();
    assert_eq!(rpc.wait().unwrap().exit_status, 0);
    rpc.delete().unwrap();
    finish(shim);
}
