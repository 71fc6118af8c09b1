#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn exit(status: u32) -> Exit {
    Exit { status, at: SystemTime::UNIX_EPOCH }
}

#[test]
fn statuses_are_counted_as_shells_do() {
    // Encoded as wait(2) does: the code in bits 8-15, or the signal in 0-6.
    for code in [0, 1, 7, 126, 127, 255] {
        assert_eq!(exit_status(WaitStatus::new(code << 8)), Some(code as u32));
    }
    for signal in [1, 2, 9, 15, 34, 64] {
        assert_eq!(exit_status(WaitStatus::new(signal)), Some(128 + signal as u32));
    }
    // With a core dump, and stopped.
    assert_eq!(exit_status(WaitStatus::new(11 | 0x80)), Some(139));
    assert_eq!(exit_status(WaitStatus::new((19 << 8) | 0x7f)), None);
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
