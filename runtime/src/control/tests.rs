#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;

use super::*;

fn connected() -> (Control, StdStream) {
    let (control, theirs) = Control::pair().unwrap();
    (control, StdStream::from(theirs))
}

#[tokio::test]
async fn reports_come_one_by_one_and_end() {
    let (mut control, mut theirs) = connected();
    let failed = Report::Failed { error: "no".into() };
    let lines = format!("{{\"report\":\"ready\"}}\n{}\n", serde_json::to_string(&failed).unwrap());
    theirs.write_all(lines.as_bytes()).unwrap();
    drop(theirs);
    assert_eq!(control.report().await.unwrap(), Some(Report::Ready));
    assert_eq!(control.report().await.unwrap(), Some(failed));
    assert_eq!(control.report().await.unwrap(), None);
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let (mut control, mut theirs) = connected();
    let writer = std::thread::spawn(move || {
        let block = vec![b'['; MAX_LINE];
        while theirs.write_all(&block).is_ok() {}
    });
    assert!(control.report().await.is_err());
    drop(control);
    writer.join().unwrap();
}

#[tokio::test]
async fn garbage_is_an_error() {
    let (mut control, mut theirs) = connected();
    theirs.write_all(b"{\"report\":\"reboot the host\"}\n").unwrap();
    assert!(control.report().await.is_err());
}
