//! A program that serves in a namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Namespace;
use crate::{paths, until};

/// `toolbox listen` and its like, with what it tells.
pub struct Server {
    name: String,
    child: Child,
    told: PathBuf,
}

impl Server {
    /// Starts the toolbox with `words` in `namespace`; what it tells goes to
    /// a file in `dir`.
    pub fn start(namespace: &Namespace, dir: &Path, name: &str, words: &[&str]) -> Self {
        let told = dir.join(name);
        let file = File::create(&told).unwrap();
        let child = namespace.run(|| {
            Command::new(paths::toolbox())
                .args(words)
                .stdin(Stdio::null())
                .stdout(file.try_clone().unwrap())
                .stderr(file)
                .spawn()
                .expect("the toolbox does not start: make toolbox")
        });
        Self { name: name.to_owned(), child, told }
    }

    /// Waits until it listens.
    pub fn until_ready(&self) {
        until(&format!("{} listens", self.name), Duration::from_secs(10), || {
            self.told().starts_with("listening").then_some(())
        });
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// All that it has told so far.
    pub fn told(&self) -> String {
        fs::read_to_string(&self.told).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
