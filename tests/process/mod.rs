//! The first process: its arguments, environment, identity, and signals.

use std::io::{BufRead, BufReader};

use sandbox_tests::{Bed, code, open_reader, spec, tests};
use serde_json::json;
use ttrpc::Code;

tests![
    Any arguments_arrive_as_they_are,
    Any environment_arrives_as_it_is,
    Any user_groups_cwd_umask_and_limits_are_as_asked,
    Any hostname_is_the_one_of_the_spec,
    Any capabilities_are_those_of_the_spec,
    Any a_missing_command_is_named,
    Any every_signal_reaches_the_first_process,
    Any exit_by_signal_is_128_and_its_number,
    Any kill_ends_all_processes,
    Any calls_right_after_start_need_no_retry,
    Ours the_kernel_is_not_the_hosts,
];

/// R16: spaces, quotes, newlines, an empty argument, 128 KB in all, and one
/// of nearly 128 KB: never through a shell.
fn arguments_arrive_as_they_are(bed: &Bed) {
    let long = "x".repeat(120_000);
    let words =
        ["printf", "[%s]", "", " a  b ", "'\"`$HOME", "two\nlines", "-n", "ünïcödé", "*", &long];
    let out = bed.run_spec("a", spec(&words), &[]).ok();
    let expected: String = words[2..].iter().map(|word| format!("[{word}]")).collect();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), expected);
}

/// R17: 1000 variables, `=` in a value, an empty one; and LD_PRELOAD of the
/// container is a variable of the container, and of nothing else.
fn environment_arrives_as_it_is(bed: &Bed) {
    let mut variables: Vec<String> = (0..1000).map(|n| format!("V{n}=value {n}")).collect();
    variables
        .extend(["EQ=a=b=c", "EMPTY=", "LD_PRELOAD=/nowhere.so", "PATH=/bin"].map(str::to_owned));
    let mut spec = spec(&["env"]);
    spec["process"]["env"] = json!(variables);
    let out = bed.run_spec("a", spec, &[]).ok();
    let text = out.text();
    let seen: Vec<&str> = text.lines().collect();
    for variable in &variables {
        assert!(seen.contains(&variable.as_str()), "{variable} is missing");
    }
    assert_eq!(out.errors(), "");
}

/// R18: user, supplementary groups, working directory, umask and limits.
fn user_groups_cwd_umask_and_limits_are_as_asked(bed: &Bed) {
    let line = "id -u; id -g; id -G; pwd; umask; ulimit -n; ulimit -Hn; ulimit -c; \
                grep NoNewPrivs /proc/self/status | tr -d '\\t'";
    let mut spec = spec(&["sh", "-c", line]);
    spec["process"]["user"] =
        json!({ "uid": 1000, "gid": 1000, "umask": 0o027, "additionalGids": [29, 44] });
    spec["process"]["cwd"] = json!("/home/user");
    spec["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 123, "hard": 456 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
    ]);
    let out = bed.run_spec("a", spec, &[]).ok();
    let text = out.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        ["1000", "1000", "1000 29 44", "/home/user", "0027", "123", "456", "0", "NoNewPrivs:1"]
    );
}

fn hostname_is_the_one_of_the_spec(bed: &Bed) {
    let mut spec = spec(&["hostname"]);
    spec["hostname"] = json!("a-name-of-its-own");
    assert_eq!(bed.run_spec("a", spec, &[]).ok().text(), "a-name-of-its-own");
}

/// R18: the sets of the spec, and no more.
fn capabilities_are_those_of_the_spec(bed: &Bed) {
    let mut spec = spec(&["sh", "-c", "grep ^Cap /proc/self/status | tr -d '\\t'; chown 1:1 /tmp"]);
    // CAP_KILL and CAP_SETUID: bits 5 and 7.
    let set = json!(["CAP_KILL", "CAP_SETUID"]);
    spec["process"]["capabilities"] = json!({ "bounding": set, "effective": set, "permitted": set, "inheritable": [], "ambient": [] });
    let out = bed.run_spec("a", spec, &[]).exits(1);
    for line in ["CapPrm:00000000000000a0", "CapEff:00000000000000a0", "CapBnd:00000000000000a0"] {
        assert!(out.text().contains(line), "{line} is not in {}", out.text());
    }
    assert!(out.errors().contains("Operation not permitted"), "{}", out.errors());
}

/// containerd's own words for what runc says, and nothing left of the try.
fn a_missing_command_is_named(bed: &Bed) {
    let out = bed.run("a").foreground(&["nope"]);
    out.exits(1).fails_with(&[r#"exec: "nope": executable file not found in $PATH"#]);
    let out = bed.run("b").foreground(&["/no/such/file"]);
    out.exits(1).fails_with(&["/no/such/file", "no such file or directory"]);
    bed.run("c")
        .foreground(&["/etc/passwd"])
        .exits(1)
        .fails_with(&["/etc/passwd", "permission denied"]);
}

/// R11: all that a process can catch. 32 and 33 belong to the C library.
fn every_signal_reaches_the_first_process(bed: &Bed) {
    let line = "for n in $(seq 1 64); do trap \"echo got $n\" $n 2>/dev/null; done; echo ready; \
                while :; do sleep 1000 & wait; done";
    let shim = bed.shim("a", spec(&["sh", "-c", line]));
    let (out, err) = (shim.fifo("out"), shim.fifo("err"));
    let mut request = shim.request(bed.rootfs("a"));
    request.stdout = out.display().to_string();
    request.stderr = err.display().to_string();
    let (reader, _errors) = (open_reader(&out), open_reader(&err));
    shim.create(&request).unwrap();
    shim.rpc().start().unwrap();
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    let (kill, stop) = (9, 19);
    for signal in (1..=64).filter(|n| ![kill, stop, 32, 33].contains(n)) {
        shim.rpc().kill(signal, false).unwrap_or_else(|error| panic!("signal {signal}: {error}"));
        let expected = format!("got {signal}");
        assert!(lines.any(|line| line == expected), "the end of output came before {expected:?}");
    }
    shim.rpc().kill(kill, false).unwrap();
    assert_eq!(shim.rpc().wait().unwrap().exit_status, 137);
    shim.rpc().delete().unwrap();
    shim.shutdown();
}

/// R10, R30: 137 after SIGKILL; 143 after a SIGTERM that is not caught; and
/// the code of its own of one that ends on SIGTERM in order.
fn exit_by_signal_is_128_and_its_number(bed: &Bed) {
    let cases = [
        ("kill", 9, "sleep 1000", 137),
        // The first process of a PID namespace dies of a signal only if it
        // does not ignore it; with no handler it ignores all but SIGKILL.
        ("term", 15, "sh -c 'kill -TERM $$'; exit $?", 143),
        ("graceful", 15, "trap 'exit 5' TERM; echo ready; while :; do sleep 1000 & wait; done", 5),
    ];
    for (name, signal, line, expected) in cases {
        let shim = bed.shim(name, spec(&["sh", "-c", line]));
        let (out, err) = (shim.fifo("out"), shim.fifo("err"));
        let mut request = shim.request(bed.rootfs(name));
        request.stdout = out.display().to_string();
        request.stderr = err.display().to_string();
        let (reader, _errors) = (open_reader(&out), open_reader(&err));
        shim.create(&request).unwrap();
        shim.rpc().start().unwrap();
        if name == "graceful" {
            assert_eq!(BufReader::new(&reader).lines().next().unwrap().unwrap(), "ready");
        }
        if name != "term" {
            shim.rpc().kill(signal, false).unwrap();
        }
        let first = shim.rpc().wait().unwrap();
        assert_eq!(first.exit_status, expected, "{name}");
        assert!(first.exited_at.seconds > 1_600_000_000, "{name}: no time of exit: {first:?}");
        let again = shim.rpc().wait().unwrap();
        assert_eq!(again, first, "{name}: Wait after the end");
        let deleted = shim.rpc().delete().unwrap();
        assert_eq!((deleted.exit_status, deleted.exited_at), (expected, first.exited_at), "{name}");
        shim.shutdown();
    }
}

/// R12: SIGKILL to all ends what the first process started as well.
fn kill_ends_all_processes(bed: &Bed) {
    let id = bed.run("a").detached(&["sh", "-c", "sleep 1000 & sleep 1000"]);
    bed.ctr(&["task", "kill", "--all", "--signal", "SIGKILL", &id]).ok();
    bed.until_stopped(&id);
    bed.ctr(&["task", "delete", &id]);
    bed.ctr(&["container", "delete", &id]).ok();
}

/// R19: what a client may ask when Start has answered works at once; the
/// server waits where something has to be waited for.
fn calls_right_after_start_need_no_retry(bed: &Bed) {
    let shim = bed.shim("a", spec(&["sleep", "1000"]));
    shim.create(&shim.request(bed.rootfs("a"))).unwrap();
    let pid = shim.rpc().start().unwrap().pid;
    let state = shim.rpc().state().unwrap();
    assert_eq!((state.pid, state.status.value()), (pid, 2), "RUNNING is 2");
    assert!(!shim.rpc().pids().unwrap().processes.is_empty());
    assert_eq!(shim.rpc().connect().unwrap().task_pid, pid);
    shim.rpc().kill(9, false).unwrap();
    assert_eq!(shim.rpc().wait().unwrap().exit_status, 137);
    // R11: what is dead takes no signal.
    let error = shim.rpc().kill(9, false).unwrap_err();
    assert_eq!(code(&error), Some(Code::NOT_FOUND), "{error}");
    shim.rpc().delete().unwrap();
    shim.shutdown();
}

fn the_kernel_is_not_the_hosts(bed: &Bed) {
    let host = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    assert_ne!(bed.run("a").foreground(&["uname", "-r"]).ok().text(), host);
}
