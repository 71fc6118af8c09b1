//! `kvm-suite [core | all | NofM | NAME]`: the feature tests on the kvm engine.
//! On this machine if its KVM is usable; else in labs, without the tests in
//! `left-out`. `core` runs the tests in `core` in one lab, `NofM` one of M
//! pieces of the suite, NAME the tests whose name contains it.
#![allow(clippy::print_stdout)]

mod lab;
mod log;
mod select;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::lab::Lab;
use crate::select::Selection;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match run(&Selection::new(&argument)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("test-kvm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(selection: &Selection) -> Result<bool, String> {
    let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    std::env::set_current_dir(tree).map_err(|error| format!("cannot enter {tree}: {error}"))?;
    let tests = test_binary()?;
    let probe = output(Command::new(vmm()).arg("probe"))?;
    let listed = output(Command::new(&tests).arg("--list"))?;
    let all = listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned);
    let all: Vec<String> = all.collect();
    if probe.contains("\"usable\":true") {
        return on_this_machine(selection, tests, &all);
    }
    let chosen = selection.of(&all, true)?;
    println!("test-kvm: in labs: {}", probe.trim_end());
    println!(
        "test-kvm: {} of {} tests; tests/kvm/left-out lists tests that labs leave out and why, \
         TESTS=all includes them",
        chosen.len(),
        all.len()
    );
    let began = Instant::now();
    let labs = if *selection == Selection::Core { 1 } else { cores() };
    let lab = Lab::new(tests)?;
    let outcome = lab.run_all(&select::deal(&chosen, labs));
    Ok(outcome.report(&chosen, began.elapsed()))
}

/// Runs the tests without a lab. The core is a part of the feature tests, which
/// `make test` runs on this engine where `auto` picks it.
fn on_this_machine(selection: &Selection, tests: PathBuf, all: &[String]) -> Result<bool, String> {
    println!("test-kvm: this machine's KVM is usable: no lab is needed");
    if *selection == Selection::Core {
        println!("test-kvm: make test-vm-features runs the core on this engine");
        return Ok(true);
    }
    let status = Command::new(tests)
        .env("SANDBOX_TEST_ENGINE", "kvm")
        .env("SANDBOX_TEST_ONLY", selection.of(all, false)?.join(" "))
        .status()
        .map_err(|error| format!("cannot run the tests: {error}"))?;
    Ok(status.success())
}

/// Builds the feature tests and returns their executable.
fn test_binary() -> Result<PathBuf, String> {
    let lines = output(
        Command::new("cargo")
            .args(["test", "--locked", "--quiet", "--workspace", "--test", "vm", "--no-run"])
            .arg("--message-format=json"),
    )?;
    let mut executables = lines.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "vm")
            .then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executables.next_back().ok_or_else(|| "cannot build the feature tests".to_owned())
}

fn vmm() -> PathBuf {
    let default = || PathBuf::from("target/release/sandbox-vmm");
    std::env::var_os("SANDBOX_TEST_VMM").map_or_else(default, PathBuf::from)
}

fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One lab per core: an emulated CPU uses one, and a lab with more than one
/// vCPU is slower and less stable.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
