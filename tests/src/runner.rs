//! Runs the tests: each in a process of its own, so that what it starts, and
//! nothing else, descends from it.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Bed, Process, containerd, image, leftovers, paths, patience};

/// Names the test that this process is to run.
const ONE: &str = "SANDBOX_TEST_ONE";
/// Names of the tests to run, with spaces between them; the others are
/// ignored. Not set: all.
const ONLY: &str = "SANDBOX_TEST_ONLY";
/// The longest that a test may take: the longest has 50 containers, one after
/// another, while three other tests run.
const LIMIT: Duration = Duration::from_secs(480);
/// Beginnings of the lines of a test that are shown also when it passes.
const RESULTS: [&str; 2] = ["figure:", "left out:"];
/// R40: four at once is the normal way to run.
const THREADS: usize = 4;

/// Which runtimes a test holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Every containerd runtime.
    Any,
    /// This one.
    Ours,
}

/// One test.
#[derive(Clone, Copy)]
pub struct Test {
    /// Path of its module.
    pub module: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Where it holds.
    pub on: On,
    /// Panics when it fails.
    pub body: fn(&Bed),
}

impl Test {
    fn path(&self) -> String {
        match self.module.split_once("::") {
            Some((_, module)) => format!("{module}::{}", self.name),
            None => self.name.to_owned(),
        }
    }
}

/// Runs this program again with more programs in `PATH`. Each command, a file
/// of the tree and its arguments, prints the directories of some. They run once
/// for all tests, and not for a list of the tests.
pub fn find_programs(commands: &[&[&str]]) {
    const FOUND: &str = "SANDBOX_TEST_PROGRAMS";
    let is_list = std::env::args().any(|argument| argument == "--list");
    if is_list || std::env::var_os(FOUND).is_some() {
        return;
    }
    let mut path = String::new();
    for words in commands {
        let mut command = Command::new(paths::tree().join(words[0]));
        let output = command.args(&words[1..]).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", output.status);
        path.push_str(String::from_utf8(output.stdout).unwrap().trim());
        path.push(':');
    }
    path.push_str(&std::env::var("PATH").unwrap_or_default());
    path.push_str(":/usr/sbin:/sbin");
    let arguments = std::env::args_os().skip(1);
    let mut again = Command::new("/proc/self/exe");
    panic!("{}", again.args(arguments).env("PATH", path).env(FOUND, "1").exec())
}

/// `main` of a test binary.
pub fn main(modules: &[&[Test]]) -> ExitCode {
    set_child_subreaper(true).unwrap();
    let tests: Vec<Test> = modules.concat();
    match std::env::var(ONE) {
        Ok(path) => one(tests.iter().find(|test| test.path() == path).expect("no such test")),
        Err(_) => all(&tests),
    }
}

/// R39: runs every test that the arguments select, then looks at what they
/// left.
fn all(tests: &[Test]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let scratch = tempfile::tempdir_in(paths::base()).unwrap();
    if !arguments.list {
        println!("runtime {}, engine {}", paths::runtime(), paths::engine());
    }
    let image =
        if arguments.list { scratch.path().to_owned() } else { image::make(scratch.path()) };
    let before = leftovers::shared_state();

    let only = std::env::var(ONLY).ok();
    let chosen =
        |path: &str| only.as_ref().is_none_or(|list| list.split(' ').any(|name| name == path));
    check_names(only.as_deref().unwrap_or_default(), tests);

    let trials = tests
        .iter()
        .map(|test| {
            let (path, image) = (test.path(), image.clone());
            let ignored = (test.on == On::Ours && !paths::ours()) || !chosen(&path);
            Trial::test(path.clone(), move || in_process(&path, &image)).with_ignored_flag(ignored)
        })
        .collect();
    let ran = libtest_mimic::run(&arguments, trials);
    if arguments.list || ran.num_passed + ran.num_failed == 0 {
        return ran.exit_code();
    }

    arguments.filter = None;
    let last = Trial::test("nothing_is_left_after_all_tests", move || nothing_left(&before));
    let left = libtest_mimic::run(&arguments, vec![last]);
    if ran.has_failed() { ran.exit_code() } else { left.exit_code() }
}

/// A name that no test has would silently be no test.
fn check_names(list: &str, tests: &[Test]) {
    for name in list.split_whitespace() {
        assert!(
            tests.iter().any(|test| test.path() == name),
            "{ONLY} names {name}, and no test is that"
        );
    }
}

fn nothing_left(before: &[String]) -> Result<(), Failed> {
    let mut found = leftovers::processes(&[]);
    found.extend(leftovers::shared_state().into_iter().filter(|entry| !before.contains(entry)));
    found.extend(leftovers::mounts(&paths::base().join("sbx-")));
    if found.is_empty() { Ok(()) } else { Err(found.join("\n").into()) }
}

/// Runs one test in a process, bounded in time; on failure gives all it said.
fn in_process(path: &str, image: &std::path::Path) -> Result<(), Failed> {
    let mut output = tempfile::tempfile().unwrap();
    if is_chosen() {
        say(&format!("{path}: begins"));
    }
    let since = Instant::now();
    let child = Command::new("/proc/self/exe")
        .env(ONE, path)
        .env("RUST_BACKTRACE", "0")
        .env(image::VARIABLE, image)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap())
        .spawn()
        .unwrap();
    let failure = wait(child);
    let how = if failure.is_none() { "ok" } else { "FAILED" };
    say(&format!("{path}: {how} in {:.1} s", since.elapsed().as_secs_f64()));
    let mut text = vec![];
    output.rewind().unwrap();
    output.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text);
    match failure {
        None => {
            // Figures, and what a test leaves out, are part of the result.
            let is_result = |line: &&str| RESULTS.iter().any(|start| line.starts_with(start));
            for line in text.lines().filter(is_result) {
                say(&format!("{path}: {line}"));
            }
            Ok(())
        }
        Some(how) => {
            if is_chosen() {
                // The machine may not live to the summary at the end.
                say(&format!("{path}: {how}\n{text}"));
            }
            Err(format!("{how}\n{text}").into())
        }
    }
}

/// Whether someone else chose the tests and reads what they print: which of
/// them began, should the machine end.
fn is_chosen() -> bool {
    std::env::var_os(ONLY).is_some()
}

/// Prints a line; one for a program begins a line of its own, whatever
/// another thread is about to end.
fn say(line: &str) {
    println!("{}{line}", if is_chosen() { "\n" } else { "" });
}

/// Why it failed, unless it did not.
fn wait(mut child: Child) -> Option<String> {
    let pid = i32::try_from(child.id()).unwrap();
    let (done, ended) = channel();
    thread::spawn(move || done.send(child.wait()));
    match ended.recv_timeout(patience(LIMIT)) {
        Ok(status) => {
            let status = status.unwrap();
            (!status.success()).then(|| format!("the test ended with {status}"))
        }
        Err(_) => {
            end_below(pid);
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            Some(format!("the test took longer than {:?}", patience(LIMIT)))
        }
    }
}

/// Kills whatever descends from `pid`.
fn end_below(pid: i32) {
    for process in Process::below(pid) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
}

/// Runs a test in this process.
fn one(test: &Test) -> ExitCode {
    let bed = Bed::new();
    let passed = catch_unwind(AssertUnwindSafe(|| {
        (test.body)(&bed);
        bed.assert_clean();
    }))
    .is_ok();
    if !passed {
        show_logs(&bed);
    }
    let kept = !passed && std::env::var_os("SANDBOX_TEST_KEEP").is_some();
    clear(bed, kept);
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the ends of the logs that tell why a test failed.
fn show_logs(bed: &Bed) {
    let mut logs = vec![containerd::log(bed.dir())];
    logs.extend(find(&bed.state_dir(), "console.log"));
    logs.extend(find(&bed.dir().join("bundles"), "shim.log"));
    for log in logs {
        if let Ok(mut file) = File::open(&log) {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            let lines: Vec<&str> = text.lines().collect();
            println!(
                "--- {}\n{}",
                log.display(),
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
    }
}

fn find(dir: &std::path::Path, name: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join(name)).filter(|path| path.exists()).collect()
}

/// Ends what a failed test may have left, so that it harms no other test.
fn clear(bed: Bed, keep: bool) {
    bed.kill_containerd();
    for _ in 0..10 {
        end_below(std::process::id().try_into().unwrap());
        if leftovers::processes(&[]).is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    for socket in leftovers::shim_sockets(&bed) {
        let _ = std::fs::remove_file(socket);
    }
    for mount in leftovers::mounts(bed.dir()).iter().rev() {
        if let Some(target) = mount.split(' ').nth(5) {
            let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
        }
    }
    if keep {
        println!("kept: {}", bed.into_dir().display());
    }
}
