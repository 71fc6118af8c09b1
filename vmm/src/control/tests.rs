#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::fd::{AsRawFd, IntoRawFd};

use super::*;

fn pair() -> (Control, UnixStream) {
    let (ours, shim) = UnixStream::pair().unwrap();
    (Control::new(ours).unwrap(), shim)
}

const FS: &str =
    r#"{"process":"fs","devices":[],"tag":"share","config":true,"share":"/pod/share"}"#;

#[test]
fn the_launch_message_may_come_in_pieces() {
    let (control, mut shim) = pair();
    let writer = thread::spawn(move || {
        for byte in format!("{FS}\n").bytes() {
            shim.write_all(&[byte]).unwrap();
        }
        shim
    });
    let Launch::Fs(launch) = control.launch().unwrap() else { panic!("another process") };
    assert_eq!(launch.tag, "share");
    drop(writer.join().unwrap());
    control.wait_for_end();
}

#[test]
fn a_broken_launch_message_is_refused() {
    type Case = (&'static [u8], fn(&ControlError) -> bool);
    let cases: [Case; 5] = [
        (b"", |e| matches!(e, ControlError::Eof)),
        (b"{\"process\":\"fs\"", |e| matches!(e, ControlError::Eof)),
        (b"{\"process\":\"fs\"}\n", |e| matches!(e, ControlError::Parse(_))),
        (b"\xff\n", |e| matches!(e, ControlError::Parse(_))),
        (b"{}\n{}", |e| matches!(e, ControlError::Trailing(2))),
    ];
    for (bytes, expected) in cases {
        let (control, mut shim) = pair();
        shim.write_all(bytes).unwrap();
        drop(shim);
        let error = control.launch().unwrap_err();
        assert!(expected(&error), "{bytes:?} gave {error:?}");
    }
}

#[test]
fn a_launch_message_without_end_is_refused_at_the_bound() {
    let (control, mut shim) = pair();
    let writer = thread::spawn(move || while shim.write_all(&[b' '; 4096]).is_ok() {});
    assert!(matches!(control.launch(), Err(ControlError::TooLong)));
    drop(control);
    writer.join().unwrap();
}

#[test]
fn reports_are_lines() {
    let (control, mut shim) = pair();
    control.report(&Report::Ready).unwrap();
    control.report(&Report::Failed { error: "a\nb".into() }).unwrap();
    drop(control);
    let mut text = String::new();
    shim.read_to_string(&mut text).unwrap();
    let reports: Vec<Report> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(reports, [Report::Ready, Report::Failed { error: "a\nb".into() }]);
}

#[test]
fn a_descriptor_is_taken_once_and_only_if_it_was_passed() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let fd = fcntl(&null, FcntlArg::F_DUPFD_CLOEXEC(10)).unwrap();
    assert!(inherited(fd, "test").is_err(), "our own, closed on exec");
    // SAFETY: the number has no owner yet.
    let ours = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&ours, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let fd = ours.into_raw_fd();
    let taken = inherited(fd, "test").unwrap();
    assert_eq!(taken.as_raw_fd(), fd);
    assert!(inherited(fd, "test").is_err(), "taken twice");
    for fd in [-1, 0, CONTROL_FD, 1_000_000] {
        assert!(inherited(fd, "test").is_err(), "{fd}");
    }
}
