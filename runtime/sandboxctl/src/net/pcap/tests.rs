#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::tests::fake::Fake;

fn captured(bytes: &[u8], lost: u64) -> Reply {
    Reply::Captured { pcapng: STANDARD.encode(bytes), lost }
}

fn captures(replies: Vec<Reply>, to: &mut impl Write) -> (Result<(), String>, u64) {
    let mut fake = Fake::new(replies);
    let request = Request::Capture { snap: 96 };
    let mut lost = 0;
    let outcome = capture(&mut fake.client, &request, to, &mut |count| lost += count);
    assert_eq!(fake.asked(), [request]);
    (outcome.map_err(|error| error.to_string()), lost)
}

#[test]
fn a_capture_is_written_as_it_comes_until_the_sandbox_ends() {
    let mut file = Vec::new();
    let replies = vec![captured(b"\n\r\r\nhead", 0), captured(b"", 0), captured(&[0, 255], 3)];
    let (outcome, lost) = captures(replies, &mut file);
    assert_eq!((outcome, lost), (Ok(()), 3));
    assert_eq!(file, b"\n\r\r\nhead\0\xff");
}

#[test]
fn what_is_no_capture_is_an_error() {
    let odd = Reply::Captured { pcapng: "%%%".into(), lost: 0 };
    let (outcome, _) = captures(vec![odd], &mut Vec::new());
    assert!(outcome.unwrap_err().contains("no capture"));
    let (outcome, _) = captures(vec![captured(b"a", 0), Reply::Done], &mut Vec::new());
    assert!(outcome.unwrap_err().contains("something else"));
    let failed = Reply::Failed { error: "too many captures".into() };
    let (outcome, _) = captures(vec![failed], &mut Vec::new());
    assert_eq!(outcome, Err("too many captures".into()));
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let (reader, mut writer) = io::pipe().unwrap();
    drop(reader);
    let (outcome, _) = captures(vec![captured(b"a", 0)], &mut writer);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn only_its_owner_reads_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = create(&dir.path().join("a.pcapng")).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
