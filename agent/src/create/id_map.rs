//! The tools that libcontainer has write user namespaces of several ranges,
//! `newuidmap` and `newgidmap`: here they are this program under other names.
//! It runs as root, so that nothing stands between it and the kernel's files
//! (user_namespaces(7)).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

use oci_spec::runtime::{LinuxIdMapping, Spec};

/// Each tool with the file of a process that it writes.
const TOOLS: [(&str, &str); 2] = [("newuidmap", "uid_map"), ("newgidmap", "gid_map")];

/// Their directory, which is the `PATH` of the creating child.
pub const DIR: &str = "/run/sandbox/bin";

/// Whether a container needs them: one range the library writes itself.
pub fn is_needed(spec: &Spec) -> bool {
    let many = |ranges: &Option<Vec<LinuxIdMapping>>| ranges.as_ref().is_some_and(|r| r.len() > 1);
    let linux = spec.linux().as_ref();
    linux.is_some_and(|linux| many(linux.uid_mappings()) || many(linux.gid_mappings()))
}

/// The file that a program of this name writes; none for others.
pub fn file(program: &OsStr) -> Option<&'static str> {
    let name = Path::new(program).file_name()?;
    TOOLS.iter().find(|(tool, _)| name == *tool).map(|(_, file)| *file)
}

/// Writes it: `PID`, then any number of `INSIDE OUTSIDE LENGTH`.
pub fn run(file: &str, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<String> =
        arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let Some((pid, map)) = map(&arguments) else { return ExitCode::FAILURE };
    match fs::write(format!("/proc/{pid}/{file}"), map) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox-agent: writing {file} of {pid}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn map(arguments: &[String]) -> Option<(u32, String)> {
    let (pid, ranges) = arguments.split_first()?;
    let numbers: Option<Vec<u32>> = ranges.iter().map(|word| word.parse().ok()).collect();
    let numbers = numbers?;
    let lines = numbers.chunks(3).map(|range| match range {
        [inside, outside, length] => Some(format!("{inside} {outside} {length}\n")),
        _ => None,
    });
    Some((pid.parse().ok()?, lines.collect::<Option<String>>()?))
}

pub fn provide() -> io::Result<()> {
    fs::create_dir_all(DIR)?;
    let program = std::env::current_exe()?;
    for (tool, _) in TOOLS {
        match symlink(&program, Path::new(DIR).join(tool)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn names_of_tools() {
        assert_eq!(file(OsStr::new("/run/sandbox/bin/newuidmap")), Some("uid_map"));
        assert_eq!(file(OsStr::new("newgidmap")), Some("gid_map"));
        assert_eq!(file(OsStr::new("/init")), None);
        assert_eq!(file(OsStr::new("/")), None);
    }

    #[test]
    fn ranges_become_lines() {
        let of = |words: &str| map(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(
            of("7 0 0 10 10 1000 65535").unwrap(),
            (7, "0 0 10\n10 1000 65535\n".to_owned())
        );
        for words in ["", "7 0 0", "7 0 0 x", "x 0 0 1", "7 0 0 -1", "7 0 0 4294967296"] {
            assert!(of(words).is_none(), "{words}");
        }
    }
}
