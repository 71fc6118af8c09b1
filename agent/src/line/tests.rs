#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[tokio::test]
async fn a_line_has_at_most_its_bound() {
    let line = |text: &'static str| async move { read(&mut text.as_bytes(), 5).await };
    assert_eq!(line("abcd\n").await.unwrap(), Ok(("abcd".to_owned(), Vec::new())));
    assert_eq!(line("abcde\n").await.unwrap(), Err(BadLine::TooLong(5)));
    assert_eq!(line("abcdefgh").await.unwrap(), Err(BadLine::TooLong(5)));
    assert_eq!(line("a\nb\n").await.unwrap(), Ok(("a".to_owned(), b"b\n".to_vec())));
    assert_eq!(line("\n").await.unwrap(), Ok((String::new(), Vec::new())));
    assert!(line("abc").await.is_err());
}

#[test]
fn a_refusal_is_one_short_line() {
    for reason in ["x\ny\r\u{1b}[31m".repeat(5000), "\u{10ffff}".repeat(5000)] {
        let line = refusal(&reason, 256);
        assert!(line.len() <= 256 && line.ends_with('\n') && line.starts_with("ERR "));
        assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1);
    }
}
