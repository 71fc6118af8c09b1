#![allow(clippy::unwrap_used)]

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_program_that_does_not_end_has_stalled() {
    let error = output(Command::new("sleep").arg("60"), SHORT).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Stalled));
    let out = output(Command::new("echo").arg("there"), LONG).unwrap();
    assert_eq!(out.stdout, b"there\n");
}

#[test]
fn limits_are_stretched_by_the_load() {
    assert_eq!(factor("0.50 0.20 0.10 1/200 77", 2), 1.0);
    assert_eq!(factor("9.00 0.20 0.10 1/200 77", 2), 4.5);
    assert_eq!(factor("", 2), 1.0);
    assert!(under_load(SHORT) >= SHORT);
}

#[test]
fn a_line_that_does_not_come_has_stalled() {
    let (reader, writer) = std::io::pipe().unwrap();
    assert_eq!(line(reader, SHORT).unwrap_err().downcast_ref(), Some(&Stalled));
    drop(writer);
    assert_eq!(line(&b"ready\nmore"[..], LONG).unwrap(), "ready\n");
}
