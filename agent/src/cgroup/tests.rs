use super::*;

#[test]
fn oom_kills_are_read_from_their_own_line() {
    let text = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 9\n";
    assert_eq!(oom_kills(text), 3);
    assert_eq!(oom_kills("low 0\n"), 0);
    assert_eq!(oom_kills(""), 0);
}

#[test]
fn only_process_numbers_are_taken() {
    assert_eq!(parse_pid("17"), Pid::from_raw(17));
    for line in ["", "0", "-4", "x", "99999999999999"] {
        assert_eq!(parse_pid(line), None, "{line:?}");
    }
}

#[test]
fn a_name_is_never_that_of_a_control_file() {
    assert_eq!(Cgroup::name("memory.max"), "container-memory.max");
}
