#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_terminal_is_told_nothing() {
    let hostile = "a\x1b]0;x\x07\u{9b}31m\u{202e}gpj\u{200b}\r\nb";
    let shown = plain(hostile);
    assert_eq!(shown, "a\\u{1b}]0;x\\u{7}\\u{9b}31m\\u{202e}gpj\\u{200b}\\r\\nb");
    assert_eq!(lines("a\n\tb\x1b[2J\r\n"), "a\n\tb\\u{1b}[2J\\r\n");
    assert_eq!(plain("bücher.example"), "bücher.example");
    let text = json(&hostile, false).unwrap();
    assert!(!text.trim_end().chars().any(is_unsafe), "{text:?}");
    assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
}

#[test]
fn a_cell_has_an_end() {
    let shown = plain(&"x".repeat(10_000));
    assert_eq!(shown.chars().count(), MAX_CELL + 1);
    assert!(shown.ends_with('…'));
    assert_eq!(plain(&"x".repeat(MAX_CELL)).chars().count(), MAX_CELL);
}

#[test]
fn bytes_have_three_digits_at_most() {
    for (count, words) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10_189, "10 KiB"),
        (1_048_063, "1023 KiB"),
        (1_048_064, "1.0 MiB"),
        (5 << 20, "5.0 MiB"),
        (300 << 30, "300 GiB"),
        (u64::MAX, "16 EiB"),
    ] {
        assert_eq!(bytes(count), words, "{count}");
    }
}

#[test]
fn ages_in_the_two_largest_units() {
    for (milliseconds, words) in [
        (0, "0ms"),
        (999, "999ms"),
        (1000, "1s"),
        (59_999, "59s"),
        (60_000, "1m0s"),
        (3_599_000, "59m59s"),
        (3_600_000, "1h0m"),
        (86_399_000, "23h59m"),
        (90_000_000, "1d1h"),
    ] {
        assert_eq!(age(milliseconds), words);
    }
}
