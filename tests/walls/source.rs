//! Walls inside the source: what a file may hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{none, tree};

/// A file past this is two files.
const MAX_LINES: usize = 600;

/// The files with `unsafe`, exactly: around ioctls, guest memory, system calls
/// without a safe wrapper, what runs between fork and exec, an allocator; and
/// where tests do the like.
const UNSAFE_FILES: &[&str] = &[
    "agent/src/create/workload.rs",
    "agent/src/disk.rs",
    "agent/src/exec/child.rs",
    "agent/src/exec/schedule.rs",
    "agent/src/listeners/bpf.rs",
    "agent/src/listeners/ring.rs",
    "agent/src/readiness.rs",
    "agent/src/signal.rs",
    "agent/tests/guest/program.rs",
    "netstack/mapped/src/lib.rs",
    "netstack/src/bin/netstack-tap/tap.rs",
    "tests/fuzz/src/vsock.rs",
    "vmm/devices/src/blk/disk.rs",
    "vmm/src/backend/tests.rs",
    "vmm/src/control.rs",
    "vmm/src/control/tests.rs",
    "vmm/src/kvm/boot.rs",
    "vmm/src/kvm/memory.rs",
    "vmm/src/kvm/mod.rs",
    "vmm/src/kvm/vcpu.rs",
    "vmm/src/kvm/virtio/slot.rs",
    "vmm/src/probe.rs",
    "vmm/src/probe/guest.rs",
    "vmm/src/qemu.rs",
    "vmm/src/qemu/tsc.rs",
    "vmm/tests/kvm/guest.rs",
    "vmm/tests/net/engine.rs",
];

/// Names that say nothing of what a file holds.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager"];

/// Files of the tree, of whatever git would keep, whose name ends so.
pub fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            let ours = !name.starts_with('.') && name != "target" && !path.ends_with("build");
            if entry.file_type().unwrap().is_dir() {
                if ours {
                    walk(&path, ending, found);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = vec![];
    walk(&tree(), ending, &mut found);
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(tree()).unwrap().display().to_string()
}

fn is_test(path: &Path) -> bool {
    let path = relative(path);
    // The mock driver is compiled for tests and fuzz targets alone.
    path.starts_with("tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || path == "vmm/devices/src/mock.rs"
        || path.starts_with("vmm/devices/src/net/mock")
}

/// The line without its string literals and what follows `//`: enough for
/// looking for a keyword in formatted source.
fn code(line: &str) -> String {
    let mut kept = String::new();
    let mut in_string = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => {
                chars.next();
            }
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            _ if in_string => {}
            _ => kept.push(c),
        }
    }
    kept
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
}

/// Every line of Rust in the tree with its place.
pub fn lines() -> Vec<(PathBuf, usize, String)> {
    let mut all = vec![];
    for path in files(".rs") {
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            all.push((path.clone(), number + 1, line.to_owned()));
        }
    }
    all
}

/// As [`lines`], without items that are compiled for tests alone: in formatted
/// source such an item ends with a brace as far in as its attribute.
fn shipped_lines() -> Vec<(PathBuf, usize, String)> {
    let mut in_test: Option<String> = None;
    let mut shipped = vec![];
    for (path, number, line) in lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if number == 1 {
            in_test = None;
        }
        if line.trim() == "#[cfg(test)]" {
            in_test = Some(indent.to_owned());
        }
        let ends = in_test
            .as_deref()
            .is_some_and(|test| test == indent && (line.trim() == "}" || line.ends_with(';')));
        if in_test.is_none() {
            shipped.push((path, number, line));
        } else if ends {
            in_test = None;
        }
    }
    shipped
}

fn offending(is_offence: impl Fn(&Path, &str) -> bool) -> Vec<String> {
    shipped_lines()
        .into_iter()
        .filter(|(path, _, line)| is_offence(path, line))
        .map(|(path, number, line)| format!("{}:{number}: {}", relative(&path), line.trim()))
        .collect()
}

/// What git writes into a file that it could not merge.
#[test]
fn no_merge_is_left_half_done() {
    let markers = ["<".repeat(7) + " ", ">".repeat(7) + " "];
    let all = [".md", ".rs", ".toml", ".proto", ".sh", "Makefile", "run"].map(files).concat();
    let left = all.iter().flat_map(|path| {
        let text = fs::read_to_string(path).unwrap();
        let marked = |line: &str| markers.iter().any(|marker| line.starts_with(marker));
        let lines: Vec<_> = text.lines().filter(|line| marked(line)).map(str::to_owned).collect();
        lines.into_iter().map(|line| format!("{}: {line}", relative(path)))
    });
    none(left.collect(), "a merge was not finished");
}

#[test]
fn unsafe_is_in_the_files_of_the_list_and_in_no_other() {
    let has_unsafe = |(_, _, line): &(PathBuf, usize, String)| has_word(&code(line), "unsafe");
    let found: BTreeSet<String> =
        lines().iter().filter(|line| has_unsafe(line)).map(|(path, ..)| relative(path)).collect();
    let listed: BTreeSet<String> = UNSAFE_FILES.iter().map(|path| (*path).to_owned()).collect();
    none(found.difference(&listed).cloned().collect(), "`unsafe` in files not on the list");
    none(listed.difference(&found).cloned().collect(), "files on the list without `unsafe`");
}

#[test]
fn netstack_forbids_unsafe_code() {
    let lib = fs::read_to_string(tree().join("netstack/src/lib.rs")).unwrap();
    assert!(lib.contains("#![forbid(unsafe_code)]"), "netstack/src/lib.rs must forbid unsafe code");
}

/// R54: nothing that a guest or client says ends a host process: the lints
/// refuse `unwrap`, `expect` and `panic!`, this test refuses switching them
/// off outside of tests, and `process::exit` outside of `main.rs`, the
/// programs in `bin/`, and the guest's own agent.
#[test]
fn no_panic_and_no_exit_outside_of_tests_and_mains() {
    let found = offending(|path, line| {
        if is_test(path) || relative(path) == "agent/protocol/src/lib.rs" {
            return false;
        }
        let code = code(line);
        let main = path.ends_with("main.rs") || relative(path).contains("/bin/");
        let allows = code.contains("allow(")
            && ["unwrap_used", "expect_used", "clippy::panic"]
                .iter()
                .any(|lint| code.contains(lint));
        let in_guest = path.starts_with(tree().join("agent/src"));
        let exits = code.contains("process::exit(") && !main && !in_guest;
        let dies = ["todo!", "unimplemented!", "unreachable!"].iter().any(|m| code.contains(m));
        allows || exits || dies
    });
    none(found, "reachable from outside");
}

#[test]
fn nothing_is_left_for_later_in_comments() {
    let marks = ["TODO", "FIXME", "XXX", "HACK"];
    let found = offending(|path, line| {
        !relative(path).starts_with("tests/walls/") && marks.iter().any(|mark| has_word(line, mark))
    });
    none(found, "open an issue instead");
}

#[test]
fn a_file_is_one_noun_of_at_most_600_lines() {
    let mut found = vec![];
    for path in files(".rs") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > MAX_LINES {
            found.push(format!("{}: {lines} lines", relative(&path)));
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if EMPTY_NAMES.contains(&stem) || stem.ends_with("_manager") {
            found.push(format!("{}: the name says nothing", relative(&path)));
        }
    }
    none(found, "split or rename");
}
