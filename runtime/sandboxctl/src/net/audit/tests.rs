#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use super::*;

const OPEN: &str = r#"{"ts":"2026-01-02T03:04:05.678Z","pod":"web-1","flow":12,"dir":"egress","proto":"tcp","src":"10.244.1.7:40312","dst":"203.0.113.9:443","names":["api.example.com","x.example"],"rule":"api","tier":"pod","verdict":"allow","reason":"rule","generation":1}"#;
const CLOSED: &str = r#"{"ts":"2026-01-02T03:04:06.000Z","pod":"web-1","flow":12,"dir":"egress","proto":"tcp","src":"10.244.1.7:40312","dst":"203.0.113.9:443","rule":"api","tier":"pod","verdict":"allow","reason":"rule","generation":1,"bytes_in":2048,"bytes_out":100,"close":"ended"}"#;
const DENIED: &str = r#"{"ts":"2026-01-02T03:04:07.000Z","pod":"web-1","dir":"egress","proto":"udp","src":"10.244.1.7:40312","dst":"[2001:db8::1]:53","tier":"system","verdict":"deny","reason":"system:link-local","generation":1,"count":7}"#;
const LIMITED: &str =
    r#"{"ts":"2026-01-02T03:04:08.000Z","pod":"web-1","verdict":"limited","count":99}"#;

fn options(denied: bool, json: bool) -> Options {
    Options { pod: String::new(), follow: false, lines: None, denied, json }
}

fn lines(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn a_line_is_for_people() {
    let lost = LIMITED.replace("limited", "lost");
    let all = lines(&[OPEN, CLOSED, DENIED, LIMITED, &lost]);
    let shown = text(&all, &options(false, false), None);
    let words = shown.unwrap();
    let words: Vec<String> =
        words.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        words,
        [
            "2026-01-02T03:04:05.678Z allow egress tcp 10.244.1.7:40312 -> 203.0.113.9:443 \
         api.example.com +1 pod:api",
            "2026-01-02T03:04:06.000Z allow egress tcp 10.244.1.7:40312 -> 203.0.113.9:443 - pod:api \
         100 B sent, 2.0 KiB received, ended",
            "2026-01-02T03:04:07.000Z deny egress udp 10.244.1.7:40312 -> [2001:db8::1]:53 - \
         system:system:link-local 7 times",
            "2026-01-02T03:04:08.000Z limited 99 lines were too many",
            "2026-01-02T03:04:08.000Z lost 99 lines are lost so far",
        ]
    );
}

#[test]
fn what_was_not_allowed_or_came_last() {
    let all = lines(&[OPEN, DENIED, CLOSED, LIMITED]);
    let denied = text(&all, &options(true, true), None).unwrap();
    assert_eq!(denied.lines().count(), 2);
    let values: Vec<serde_json::Value> =
        denied.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values[0], serde_json::from_str::<serde_json::Value>(DENIED).unwrap());
    let last = text(&all, &options(false, true), Some(1)).unwrap();
    assert!(last.contains("limited") && last.lines().count() == 1, "{last}");
    assert_eq!(text(&all, &options(false, true), Some(100)).unwrap().lines().count(), 4);
}

#[test]
fn a_hostile_process_writes_nothing_to_the_terminal() {
    let mut hostile = lines(&["\u{1b}[2J", "[]", "7", "", "{", "\"a\""]);
    let field = "\\u001b[2J\\n".repeat(3000);
    hostile.push(OPEN.replace("allow", &field).replace("api", &field).replace("tcp", &field));
    hostile.push(OPEN.replace("\"tcp\"", "{\"a\":[\"\\u001b\"]}").replace("12", "\"\\u009b\""));
    for json in [false, true] {
        let shown = text(&hostile, &options(false, json), None).unwrap();
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        assert_eq!(shown.lines().count(), hostile.len());
    }
}

fn append(path: &Path, text: &str, time: u64) {
    use std::io::Write;
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(time)).unwrap();
}

#[test]
fn files_are_read_in_the_order_of_their_writing() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [0, 1].map(|half| dir.path().join(format!("audit.{half}.jsonl")));
    let [first, second] = &paths;
    append(first, "", 1);
    append(second, "old 1\nold 2\n", 2);
    append(first, "new 1\nnew", 3);
    let mut tail = Tail::new(paths.clone());
    assert_eq!(tail.read().unwrap(), ["old 1", "old 2", "new 1"]);
    append(first, " 2\n", 4);
    assert_eq!(tail.read().unwrap(), ["new 2"]);
    // The first is full: the second is emptied and written.
    append(first, "new 3\n", 5);
    fs::write(second, "").unwrap();
    append(second, "newer\n", 6);
    assert_eq!(tail.read().unwrap(), ["new 3", "newer"]);
    assert!(tail.read().unwrap().is_empty());
    append(second, &format!("{}\nafter\n", "x".repeat(1 << 20)), 7);
    let lines = tail.read().unwrap();
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [64 * 1024, 5]);
    fs::remove_file(first).unwrap();
    let error = tail.read().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("audit.0.jsonl"), "{error}");
}
