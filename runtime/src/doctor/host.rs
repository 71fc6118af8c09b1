use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

/// Where programs are looked for that no `PATH` gives: people's own often
/// lacks the directories of the system's.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longest file that is read as text, and longest output of a program: it
/// stops a file that never ends.
const MAX_TEXT: u64 = 1 << 20;

/// The host as it is looked at: below a directory, which is `/` outside of tests.
pub struct Host {
    root: PathBuf,
    is_root: bool,
}

impl Host {
    /// This host.
    pub fn this() -> Self {
        Self { root: "/".into(), is_root: nix::unistd::geteuid().is_root() }
    }

    /// A made-up one.
    #[cfg(test)]
    pub fn below(root: &Path, is_root: bool) -> Self {
        Self { root: root.to_owned(), is_root }
    }

    pub(super) fn is_root(&self) -> bool {
        self.is_root
    }

    /// Where an absolute path of the host is.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.at(Path::new(path)).exists()
    }

    pub(super) fn is_executable(&self, path: &Path) -> bool {
        fs::metadata(self.at(path))
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    }

    /// A text file, or as much of it as is taken.
    pub(super) fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        File::open(self.at(path))?.take(MAX_TEXT).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Names in a directory, none if it cannot be read.
    pub(super) fn names(&self, path: &str) -> Vec<OsString> {
        let entries = fs::read_dir(self.at(Path::new(path)));
        entries.into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
    }

    /// Where a program is, in a `PATH` or in the system's directories.
    pub(super) fn find(&self, program: &str, path: Option<&str>) -> Option<PathBuf> {
        path.unwrap_or(SYSTEM_PATH)
            .split(':')
            .filter(|dir| dir.starts_with('/'))
            .map(|dir| Path::new(dir).join(program))
            .find(|file| self.is_executable(file))
    }

    /// What a program prints, if it ends well.
    pub(super) fn output(&self, program: &Path, args: &[&str]) -> Option<String> {
        let mut child = Command::new(self.at(program))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut text = String::new();
        let read = child.stdout.take()?.take(MAX_TEXT).read_to_string(&mut text);
        let ended = child.wait().ok()?;
        (read.is_ok() && ended.success()).then_some(text)
    }

    /// SHA-256 of a file in hex, with its length.
    pub(super) fn sha256(&self, path: &Path) -> io::Result<(String, u64)> {
        let mut file = BufReader::new(File::open(self.at(path))?);
        let (mut digest, mut bytes) = (Sha256::new(), 0);
        loop {
            let read = file.fill_buf()?;
            if read.is_empty() {
                break;
            }
            digest.update(read);
            let length = read.len();
            bytes += length as u64;
            file.consume(length);
        }
        let hex = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((hex, bytes))
    }
}
