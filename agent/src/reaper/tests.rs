#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn exit(status: u32) -> Exit {
    Exit { status, at: SystemTime::UNIX_EPOCH }
}

/// The status of a shell that runs `script`, as wait(2) gives it. It ignores no
/// signal that whoever started the tests does.
#[allow(clippy::zombie_processes, reason = "waited for by its number")]
fn waited(script: &str) -> WaitStatus {
    let mut shell = std::process::Command::new("env");
    let child = shell.args(["--default-signal", "sh", "-c", script]).spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed());
    rustix::process::waitpid(pid, WaitOptions::UNTRACED).unwrap().unwrap().1
}

#[test]
fn statuses_are_counted_as_shells_do() {
    for code in [0, 1, 7, 126, 127, 255] {
        assert_eq!(exit_status(waited(&format!("exit {code}"))), Some(code));
    }
    for signal in [1, 2, 9, 15, 34, 64] {
        assert_eq!(exit_status(waited(&format!("kill -{signal} $$"))), Some(128 + signal));
    }
}

#[test]
fn a_stopped_process_has_not_ended() {
    let child = std::process::Command::new("sh").arg("-c").arg("kill -STOP $$").spawn();
    let mut child = child.unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed());
    let (_, status) = rustix::process::waitpid(pid, WaitOptions::UNTRACED).unwrap().unwrap();
    assert_eq!(exit_status(status), None);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn an_exit_reaches_every_watcher_again_and_again() {
    let reaper = Reaper::default();
    let (first, second) = (reaper.watch(7), reaper.watch(7));
    reaper.lock().ended(7, exit(3));
    for watch in [first.clone(), first, second] {
        assert_eq!(exit_of(watch).await, exit(3));
    }
}

#[tokio::test]
async fn an_exit_before_the_question_is_kept_during_a_creation() {
    let reaper = Reaper::default();
    let creation = reaper.creation();
    reaper.lock().ended(7, exit(3));
    assert_eq!(exit_of(reaper.watch(7)).await, exit(3));
    reaper.lock().ended(8, exit(4));
    drop(creation);
    assert!(reaper.lock().unclaimed.is_empty());
}

#[test]
fn orphans_leave_nothing_behind() {
    let reaper = Reaper::default();
    reaper.lock().ended(7, exit(3));
    assert!(reaper.lock().unclaimed.is_empty());
    assert!(reaper.lock().watched.is_empty());
}
