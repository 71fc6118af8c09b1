//! Runs tests in labs, again where a lab died.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::log::Log;

/// A lab's kernel can die of the emulated CPU (tests/lab/README.md), which is no
/// result of a test: tests without a result run in another lab. A test that ran
/// in this many labs that died has failed, as have labs that died before a test.
const DEATHS: usize = 2;
/// MiB of a lab, allocated on use; the largest guest has 4 GiB.
const MEMORY: &str = "7168";
/// Seconds of a lab.
const LIMIT: &str = "3000";
/// What tests/lab/run returns when the lab's kernel died.
const DIED: i32 = 254;

/// How the labs ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    passed: BTreeSet<String>,
    problems: BTreeSet<String>,
}

impl Outcome {
    /// Prints what did not pass; true if everything passed.
    pub fn report(&self, tests: &[String], took: Duration) -> bool {
        let missing: Vec<&String> =
            tests.iter().filter(|test| !self.passed.contains(*test)).collect();
        let passed = tests.len() - missing.len();
        println!("test-kvm: {passed} of {} tests passed in {} s", tests.len(), took.as_secs());
        for test in &missing {
            println!("test-kvm: not passed: {test}");
        }
        for problem in &self.problems {
            println!("test-kvm: {problem}");
        }
        missing.is_empty() && self.problems.is_empty()
    }
}

/// Starts labs that run the test binary.
pub struct Lab {
    tests: PathBuf,
    logs: tempfile::TempDir,
}

impl Lab {
    pub fn new(tests: PathBuf) -> Result<Self, String> {
        let logs = tempfile::tempdir().map_err(|e| format!("cannot create a directory: {e}"))?;
        Ok(Self { tests, logs })
    }

    /// Runs each list of tests in a lab, all lists at once.
    pub fn run_all(&self, lists: &[Vec<String>]) -> Outcome {
        let total = Mutex::new(Outcome::default());
        std::thread::scope(|scope| {
            for (n, tests) in lists.iter().enumerate() {
                let total = &total;
                scope.spawn(move || {
                    let outcome = until_done(n, tests, |tests| self.run(n, tests));
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.passed.extend(outcome.passed);
                    total.problems.extend(outcome.problems);
                });
            }
        });
        total.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs tests in one lab; returns its exit code and its output.
    fn run(&self, lab: usize, tests: &[String]) -> std::io::Result<(i32, String)> {
        let path = self.logs.path().join(lab.to_string());
        let log = File::create(&path)?;
        // The lab ends with this process.
        let status = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "tests/lab/run", "--force", "--cpus", "1"])
            .args(["--memory", MEMORY, "--timeout", LIMIT, "--", "tests/kvm/inside"])
            .arg(&self.tests)
            .args(["--test-threads", "2"])
            .env("SANDBOX_TEST_ONLY", tests.join(" "))
            .env("SANDBOX_TEST_ENGINE", "kvm")
            .env("SANDBOX_TEST_DIR", "/run/disk")
            // Clocks in a lab run as outside, and everything takes a multiple of the time.
            .env("SANDBOX_TEST_SLOW", "8")
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()?;
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        Ok((status.code().unwrap_or(-1), text))
    }
}

/// Runs tests in as many labs as it takes, one after another.
fn until_done(
    name: usize,
    tests: &[String],
    mut run: impl FnMut(&[String]) -> std::io::Result<(i32, String)>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut left = tests.to_vec();
    let mut begun: BTreeMap<String, usize> = BTreeMap::new();
    let mut early_deaths = 0;
    while !left.is_empty() {
        let (status, text) = match run(&left) {
            Ok(ended) => ended,
            Err(error) => {
                outcome.problems.insert(format!("cannot run lab {name}: {error}"));
                break;
            }
        };
        let log = Log::new(&text);
        show(name, &log);
        outcome.passed.extend(log.results().filter(|(_, ok)| *ok).map(|(test, _)| test.to_owned()));
        if status != DIED {
            if status != 0 {
                let last = log.last_line();
                outcome.problems.insert(format!("lab {name} ended with {status}: {last}"));
            }
            break;
        }
        let results: BTreeSet<&str> = log.results().map(|(test, _)| test).collect();
        left.retain(|test| !results.contains(test.as_str()));
        early_deaths += usize::from(log.begun().next().is_none());
        for test in log.begun() {
            *begun.entry(test.to_owned()).or_default() += 1;
        }
        left.retain(|test| {
            let deaths = early_deaths.max(begun.get(test).copied().unwrap_or_default());
            if deaths >= DEATHS {
                outcome.problems.insert(format!("{test}: {deaths} labs died"));
            }
            deaths < DEATHS
        });
        println!("test-kvm: lab {name} died; {} tests without a result are left", left.len());
    }
    outcome
}

fn show(name: usize, log: &Log) {
    for line in log.progress() {
        println!("{name}: {line}");
    }
    for line in log.failures() {
        println!("{line}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The outcome of `a::one` and `a::two` in labs that end like this, and the
    /// lists of tests that the labs got.
    fn labs(ends: &[(i32, &str)]) -> (Outcome, Vec<Vec<String>>) {
        let (mut ends, mut got) = (ends.iter(), vec![]);
        let outcome = until_done(0, &names(&["a::one", "a::two"]), |tests| {
            got.push(tests.to_vec());
            let (status, text) = ends.next().unwrap();
            Ok((*status, (*text).to_owned()))
        });
        (outcome, got)
    }

    const BOTH: &str = "a::one: begins\na::one: ok in 1 s\na::two: begins\na::two: ok in 1 s\n";
    const FIRST: &str = "a::one: begins\na::one: ok in 1 s\na::two: begins\n";

    #[test]
    fn a_lab_that_ends_well() {
        let (outcome, got) = labs(&[(0, BOTH)]);
        assert!(outcome.report(&got[0], Duration::ZERO));
        assert_eq!(got.len(), 1);
    }

    #[test]
    fn a_test_without_a_result_has_not_passed() {
        let (outcome, got) = labs(&[(0, FIRST)]);
        assert!(!outcome.report(&got[0], Duration::ZERO));
        assert_eq!(got.len(), 1);
    }

    #[test]
    fn an_error_of_the_runner_counts_although_tests_passed() {
        let (outcome, got) = labs(&[(1, BOTH)]);
        assert!(!outcome.report(&got[0], Duration::ZERO));
    }

    #[test]
    fn what_a_dead_lab_left_runs_in_another() {
        let (outcome, got) = labs(&[(DIED, FIRST), (0, "a::two: ok in 1 s\n")]);
        assert_eq!(got[1], ["a::two"]);
        assert!(outcome.report(&got[0], Duration::ZERO));
    }

    #[test]
    fn a_test_that_two_labs_died_of_has_failed() {
        let (outcome, got) = labs(&[(DIED, FIRST), (DIED, "a::two: begins\n")]);
        assert_eq!(got.len(), 2);
        assert_eq!(outcome.passed, BTreeSet::from(["a::one".to_owned()]));
        assert!(outcome.problems.iter().any(|problem| problem == "a::two: 2 labs died"));
    }

    #[test]
    fn labs_that_do_not_reach_the_tests_are_given_up() {
        let (outcome, got) = labs(&[(DIED, ""), (DIED, "")]);
        assert_eq!((got.len(), outcome.problems.len()), (2, 2));
    }
}
