//! A network namespace.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::{Output, exec, paths};

/// Held by a file that this process has open.
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// An empty one.
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: root is needed");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self { file: thread::scope(|scope| scope.spawn(make).join().unwrap()) }
    }

    /// A path that leads to it, for everyone, as long as this process lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Its inode: which namespace it is.
    pub fn inode(&self) -> u64 {
        self.file.metadata().unwrap().ino()
    }

    /// Calls `body` on a thread in it: what that opens or starts is there.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = || {
                setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
                body()
            };
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program in it to its end.
    pub fn exec(&self, program: &str, words: &[&str], stdin: &[u8]) -> Output {
        self.run(|| exec(Command::new(program).args(words), stdin))
    }

    /// Runs the toolbox in it; gives what it said.
    pub fn toolbox(&self, words: &[&str]) -> String {
        self.exec(paths::toolbox().to_str().unwrap(), words, &[]).ok().text()
    }

    /// Lines for `ip -batch`.
    pub fn ip(&self, lines: &str) {
        self.exec("ip", &["-batch", "-"], lines.as_bytes()).ok();
    }

    /// Writes a sysctl.
    pub fn set(&self, name: &str, value: &str) {
        self.run(|| fs::write(format!("/proc/sys/{name}"), value).unwrap());
    }

    /// Bytes that came in and went out over `interface` so far.
    pub fn bytes(&self, interface: &str) -> (u64, u64) {
        let table = self.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let line = table.lines().find_map(|line| {
            line.trim_start().strip_prefix(interface)?.strip_prefix(':').map(str::to_owned)
        });
        let fields = line.expect("the interface");
        let fields: Vec<u64> = fields.split_whitespace().map(|f| f.parse().unwrap()).collect();
        (fields[0], fields[8])
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}
