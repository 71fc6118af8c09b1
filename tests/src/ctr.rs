//! `ctr`, and commands in general, with a time limit.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::Pod;
use crate::{Bed, image, paths, patience};

/// The longest that one `ctr` may take before the test fails: several boots, or
/// hundreds of megabytes through an emulated machine.
const LIMIT: Duration = Duration::from_secs(180);

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Standard error as text, without white space around it.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }

    /// Panics with all of it unless the exit code was 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Panics with all of it unless the exit code was `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        let (out, err) = (self.text(), self.errors());
        assert_eq!(self.code, code, "exit code; stdout: {out:.2000}\nstderr: {err:.4000}");
        self
    }

    /// Panics unless the command failed and its standard error holds each of `parts`.
    #[track_caller]
    pub fn fails_with(self, parts: &[&str]) -> Self {
        let errors = self.errors();
        assert_ne!(self.code, 0, "it did not fail; stdout: {}\nstderr: {errors}", self.text());
        for part in parts {
            assert!(errors.contains(part), "{part:?} is not in: {errors}");
        }
        self
    }
}

/// Runs a command to its end with `stdin` as its input.
pub fn exec(command: &mut Command, stdin: &[u8]) -> Output {
    use std::os::unix::process::ExitStatusExt;
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut input = child.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    // Ends with the pipe; a command that does not read its input is no error.
    thread::spawn(move || drop(input.write_all(&bytes)));
    let (done, ended) = channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let output = match ended.recv_timeout(patience(LIMIT)) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            let _ = kill(pid, Signal::SIGKILL);
            panic!("not done after {:?}: {shown}", patience(LIMIT));
        }
    };
    let status = output.status;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Output { code, stdout: output.stdout, stderr: output.stderr }
}

/// A `ctr run` in the making.
pub struct Run<'a> {
    bed: &'a Bed,
    id: String,
    flags: Vec<String>,
    image: String,
    stdin: Vec<u8>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(bed: &'a Bed, name: &str) -> Self {
        let flags = vec![
            format!("--runtime={}", paths::runtime()),
            format!("--fifo-dir={}", bed.dir().join("fifo").display()),
        ];
        Self { bed, id: bed.id(name), flags, image: image::NAME.to_owned(), stdin: vec![] }
    }

    /// Adds flags of `ctr run`.
    pub fn flags<S: AsRef<str>>(mut self, flags: &[S]) -> Self {
        self.flags.extend(flags.iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    /// Puts the container into a pod's network.
    pub fn pod(self, pod: &Pod) -> Self {
        self.flags(&pod.flags())
    }

    /// Takes a folder of the host as the root, in place of the image.
    pub fn root(mut self, folder: &Path) -> Self {
        self.flags.push("--rootfs".to_owned());
        self.image = folder.display().to_string();
        self
    }

    /// What the container reads from its standard input.
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    fn command(&self, mode: &[&str], words: &[&str]) -> Command {
        let mut command = self.bed.ctr_command();
        command.arg("run").args(mode).args(&self.flags).arg(&self.image).arg(&self.id).args(words);
        command
    }

    /// Runs `words` in the foreground; the container is gone afterwards.
    pub fn foreground<S: AsRef<str>>(self, words: &[S]) -> Output {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        exec(&mut self.command(&["--rm"], &words), &self.stdin)
    }

    /// Runs `words` in the foreground and keeps the container.
    pub fn kept(self, words: &[&str]) -> Output {
        exec(&mut self.command(&[], words), &self.stdin)
    }

    /// Runs a line of shell in the foreground.
    pub fn shell(self, line: &str) -> Output {
        self.foreground(&["sh", "-c", line])
    }

    /// Starts `words` and leaves them running, with no streams; gives the id.
    pub fn detached<S: AsRef<str>>(self, words: &[S]) -> String {
        self.try_detached(words).ok();
        self.id_of()
    }

    fn id_of(self) -> String {
        self.id
    }

    /// As [`Run::detached`], giving what `ctr` said.
    pub fn try_detached<S: AsRef<str>>(&self, words: &[S]) -> Output {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        exec(&mut self.command(&["--detach", "--null-io"], &words), &[])
    }
}
