//! `conformance-judge EXPECTED LOG STATUS [partly]`: compares the log of a run
//! of containerd's tests with the list of the tests that are expected to fail.
//! STATUS is the exit status of the run, `partly` a run of selected tests.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;

/// A complete run in which fewer tests pass has not run the suite.
const MINIMUM: usize = 31;
/// Lines that are printed of each failed test, and of a log that is incomplete.
const SHOWN: usize = 40;
/// Lines that are printed from each message of a failed test on.
const MESSAGE: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(report) => {
            report.lines.iter().for_each(|line| println!("{line}"));
            if report.is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<Report, String> {
    let (expected, log, status, partly) = match *arguments {
        [expected, log, status] => (expected, log, status, false),
        [expected, log, status, "partly"] => (expected, log, status, true),
        _ => return Err("usage: conformance-judge EXPECTED LOG STATUS [partly]".to_owned()),
    };
    // Tests print the bytes of their containers.
    let read = |path: &str| match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(format!("cannot read {path}: {error}")),
    };
    Ok(Report::new(&read(expected)?, &read(log)?, status, partly))
}

#[derive(Debug, Default)]
struct Report {
    lines: Vec<String>,
    is_bad: bool,
}

impl Report {
    fn new(expected: &str, log: &str, status: &str, partly: bool) -> Self {
        let reasons: BTreeMap<&str, &str> = expected.lines().filter_map(reason).collect();
        // A test fails with its subtests: one of them on the list covers it.
        let parents: BTreeSet<&str> =
            reasons.keys().filter_map(|name| Some(name.split_once('/')?.0)).collect();
        let [passed, failed, skipped] = ["PASS", "FAIL", "SKIP"].map(|word| results(log, word));

        let mut report = Self::default();
        report.say(&format!(
            "{} passed, {} failed, {} skipped (with subtests)",
            passed.len(),
            failed.len(),
            skipped.len()
        ));
        for (name, reason) in reasons.iter().filter(|(name, _)| failed.contains(*name)) {
            report.say(&format!("expected to fail: {name}: {reason}"));
        }
        let is_expected = |name: &str| reasons.contains_key(name) || parents.contains(name);
        for name in failed.iter().filter(|name| !is_expected(name)) {
            report.fail(&format!("FAILED: {name}"));
            report.print(messages(log, name));
        }
        for name in reasons.keys().filter(|name| passed.contains(*name)) {
            report.fail(&format!(
                "passes, so it is to be taken from tests/conformance/expected: {name}"
            ));
        }
        if !log.lines().any(|line| matches!(line, "PASS" | "FAIL")) {
            report.fail(&format!("the tests did not end (status {status}):"));
            report.print(timeout(log));
            let lines: Vec<&str> = log.lines().collect();
            report.print(lines.iter().skip(lines.len().saturating_sub(SHOWN)).copied());
        }
        if !partly && passed.len() < MINIMUM {
            report.fail("hardly any test ran");
        }
        report
    }

    fn say(&mut self, line: &str) {
        self.lines.push(format!("conformance: {line}"));
    }

    fn fail(&mut self, line: &str) {
        self.say(line);
        self.is_bad = true;
    }

    fn print<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        self.lines.extend(lines.into_iter().map(str::to_owned));
    }
}

/// The test that a line of EXPECTED names, and the reason after it.
fn reason(line: &str) -> Option<(&str, &str)> {
    let (name, reason) = line.split_once(' ')?;
    (!name.is_empty() && !name.starts_with('#')).then_some((name, reason.trim_start()))
}

/// The tests with this result: `--- PASS: NAME (1.00s)`, indented for subtests.
fn results<'a>(log: &'a str, word: &str) -> BTreeSet<&'a str> {
    let name = |line: &'a str| {
        let result = line.trim_start_matches(' ').strip_prefix("--- ")?.strip_prefix(word)?;
        result.strip_prefix(": ")?.split_once(" (").map(|(name, _)| name)
    };
    log.lines().filter_map(name).collect()
}

/// The messages of a test, each with the lines after it.
fn messages<'a>(log: &'a str, name: &str) -> Vec<&'a str> {
    let (mut current, mut left) = ("", 0);
    let mut lines = Vec::new();
    for line in log.lines() {
        current = header(line).unwrap_or(current);
        if current != name {
            continue;
        }
        if is_message(line) {
            left = MESSAGE;
        }
        if left > 0 {
            lines.push(line);
            left -= 1;
        }
    }
    lines.truncate(SHOWN);
    lines
}

/// The test whose output follows: `=== CONT  NAME`.
fn header(line: &str) -> Option<&str> {
    let mut words = line.strip_prefix("=== ")?.split_whitespace();
    matches!(words.next()?, "RUN" | "NAME" | "CONT").then(|| words.next()).flatten()
}

/// Whether a line has the place of a message in it: `x_test.go:12: `.
fn is_message(line: &str) -> bool {
    line.split("_test.go:")
        .skip(1)
        .any(|rest| rest.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok()))
}

/// What Go prints of a run that takes too long, without the stacks.
fn timeout(log: &str) -> impl Iterator<Item = &str> {
    log.lines()
        .skip_while(|line| !line.starts_with("panic: test timed out"))
        .take_while(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &str = "# Tests of the suite that fail.
TestUpdate looks for a cgroup of the host
TestUser/Bad  mounts by itself
";
    const UPDATE: &str = "--- FAIL: TestUpdate (1.00s)\n";

    fn passes(count: usize) -> String {
        (0..count).map(|number| format!("--- PASS: Test{number} (0.10s)\n")).collect()
    }

    fn report(log: &str, partly: bool) -> (Vec<String>, bool) {
        let report = Report::new(EXPECTED, log, "2", partly);
        (report.lines, report.is_bad)
    }

    #[test]
    fn expected_failures_are_printed_with_their_reasons() {
        let log = format!(
            "{}{UPDATE}--- FAIL: TestUser (2.00s)\n    --- FAIL: TestUser/Bad (1.00s)\n    \
             --- SKIP: TestUser/Other (0.00s)\nFAIL\n",
            passes(31)
        );
        let lines = [
            "conformance: 31 passed, 3 failed, 1 skipped (with subtests)",
            "conformance: expected to fail: TestUpdate: looks for a cgroup of the host",
            "conformance: expected to fail: TestUser/Bad: mounts by itself",
        ];
        assert_eq!(report(&log, false), (lines.map(str::to_owned).to_vec(), false));
    }

    #[test]
    fn an_unexpected_failure_is_printed_with_its_messages() {
        let log = "=== RUN   TestA
=== RUN   TestB
    b_test.go:7: of another test
=== CONT  TestA
debug line
    a_test.go:12: expected 1
        got 2
=== NAME  TestB
    b_test.go:9: of another test
--- FAIL: TestA (0.10s)
--- FAIL: TestUser/Good (0.10s)
FAIL
";
        let (lines, is_bad) = report(log, true);
        assert!(is_bad);
        let shown = [
            "conformance: FAILED: TestA",
            "    a_test.go:12: expected 1",
            "        got 2",
            "conformance: FAILED: TestUser/Good",
        ];
        assert_eq!(lines[1..], shown);
    }

    #[test]
    fn an_expected_failure_that_passes_is_reported() {
        let (lines, is_bad) = report("--- PASS: TestUpdate (0.10s)\nPASS\n", true);
        let line = "passes, so it is to be taken from tests/conformance/expected: TestUpdate";
        assert_eq!((lines[1..].to_vec(), is_bad), (vec![format!("conformance: {line}")], true));
    }

    #[test]
    fn a_run_that_did_not_end_is_reported() {
        let log = format!(
            "{UPDATE}panic: test timed out after 20m0s\n\trunning tests:\n\nstack\n{}",
            "last\n".repeat(50)
        );
        let (lines, is_bad) = report(&log, true);
        assert!(is_bad);
        let timeout = ["panic: test timed out after 20m0s", "\trunning tests:"];
        assert_eq!(lines[2], "conformance: the tests did not end (status 2):");
        assert_eq!(lines[3..5], timeout);
        assert_eq!(lines[5..], vec!["last"; SHOWN]);
    }

    #[test]
    fn a_complete_run_has_a_minimum_of_tests() {
        let log = format!("{}PASS\n", passes(30));
        let (lines, is_bad) = report(&log, false);
        assert_eq!((lines[1].as_str(), is_bad), ("conformance: hardly any test ran", true));
        assert!(!report(&log, true).1);
    }
}
