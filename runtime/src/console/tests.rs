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
