#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn outcome(reports: &[Report]) -> Outcome {
    let mut outcome = Outcome::default();
    reports.iter().for_each(|report| outcome.add(Some(report.clone())));
    outcome
}

#[test]
fn decoding_gives_back_what_was_encoded() {
    for report in [
        Report::Refused("a".into()),
        Report::Logged(String::new()),
        Report::Failed("ä\n".into()),
        Report::Created(7),
    ] {
        assert_eq!(Report::decode(&report.encode()), Some(report));
    }
}

#[test]
fn nothing_that_is_sent_panics() {
    for message in [&b""[..], b"C", b"Cx", b"X1", b"\xff\xff", b"F\xff"] {
        Report::decode(message);
    }
    assert!(Report::Failed("x".repeat(2 * MAX_MESSAGE)).encode().len() <= MAX_MESSAGE);
}

#[test]
fn the_users_words_win_over_libcontainers() {
    let reports = [
        Report::Logged("failed to something".into()),
        Report::Refused("exec: \"x\": permission denied".into()),
        Report::Failed("failed to create container".into()),
    ];
    let error = outcome(&reports).finish(1).unwrap_err();
    assert_eq!(error.to_string(), "exec: \"x\": permission denied");
}

#[test]
fn a_failure_is_explained_by_the_log_without_repetition() {
    let logged = |line: &str| Report::Logged(line.into());
    let failed = "failed to create container: exec process failed with error \
                  error in executing process : failed to prepare rootfs";
    let reports = [
        logged("failed to mount x err=ENODEV"),
        logged("failed to mount x err=ENODEV"),
        logged("failed to initialize container process: failed to prepare rootfs"),
        logged("failed to wait for init ready: exec process failed"),
        Report::Failed(failed.into()),
    ];
    let error = outcome(&reports).finish(1).unwrap_err();
    assert_eq!(error.to_string(), "failed to prepare rootfs: failed to mount x err=ENODEV");
}

#[test]
fn a_child_that_dies_silently_is_an_error() {
    let error = Outcome::default().finish(137).unwrap_err();
    assert!(error.to_string().contains("137"), "{error}");
    for number in [0, -1, i32::MIN] {
        assert!(outcome(&[Report::Created(number)]).finish(0).is_err());
    }
    assert_eq!(outcome(&[Report::Created(5)]).finish(0).unwrap(), Pid::from_raw(5).unwrap());
}
