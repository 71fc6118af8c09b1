#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn log(content: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

#[test]
fn only_the_last_lines_come() {
    let text: String = (0..100).map(|n| format!("line {n}\r\n")).collect();
    let file = log(text.as_bytes());
    let lines = tail(file.path()).unwrap();
    assert_eq!(lines.len(), MAX_LINES);
    assert_eq!(lines.last().unwrap(), "line 99");
}

/// The registers that follow would leave no room for it.
#[test]
fn a_kernel_that_dies_says_why() {
    let before: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let after: String = (0..30).map(|n| format!("[ 4.6] R{n}: 0\n")).collect();
    let why = "[ 4.6] Oops: divide error: 0000 [#1] SMP\n[ 4.6] RIP: 0010:calibrate+0x1/0x2\n";
    let end = "[ 4.7] Kernel panic - not syncing: Fatal exception\n";
    let file = log(format!("{before}{why}{after}{end}").as_bytes());
    let lines = tail(file.path()).unwrap();
    assert_eq!(lines.len(), MAX_LINES);
    assert_eq!(lines[..2].join("\n") + "\n", why);
    // One that is short has what came before it.
    let file = log(format!("{before}{end}").as_bytes());
    assert_eq!(tail(file.path()).unwrap().last().unwrap(), end.trim());
    assert_eq!(tail(file.path()).unwrap().len(), MAX_LINES);
}

#[test]
fn an_endless_line_is_cut() {
    let file = log(&vec![b'x'; 1024 * 1024]);
    let lines = tail(file.path()).unwrap();
    assert_eq!(lines, ["x".repeat(MAX_COLUMNS)]);
}

#[test]
fn escapes_and_broken_bytes_do_no_harm() {
    let file = log(b"\x1b[2J\x07panic\xff\x00 here\n\n  \n");
    assert_eq!(tail(file.path()).unwrap(), ["[2Jpanic\u{fffd} here"]);
}

#[test]
fn an_empty_or_missing_log_is_said() {
    assert_eq!(quote(log(b"").path()), "the guest's console is empty");
    assert!(quote(Path::new("/nonexistent/log")).contains("/nonexistent/log"));
    assert_eq!(quote(log(b"a\nb").path()), "last lines of the guest's console:\n  | a\n  | b");
}
