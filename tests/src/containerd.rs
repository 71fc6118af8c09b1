//! A containerd of one's own.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{paths, until};

/// A running containerd whose root, state and sockets are below one folder.
pub struct Containerd {
    child: Child,
}

/// Its gRPC socket.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("c.sock")
}

/// Its ttrpc socket, where shims send events.
pub fn events_socket(dir: &Path) -> PathBuf {
    dir.join("c.sock.ttrpc")
}

/// Names the point at which a shim is to end.
pub fn kill_at(dir: &Path) -> PathBuf {
    dir.join("kill-at")
}

/// Its log.
pub fn log(dir: &Path) -> PathBuf {
    dir.join("containerd.log")
}

impl Containerd {
    /// Starts it and waits until it accepts connections. May be called again
    /// on the same folder once the last one has ended.
    ///
    /// `shim` is where the shim is looked for first, and it is told that the
    /// point at which it ends is in the folder's file `kill-at`. `cri` enables
    /// the CRI with this configuration.
    pub fn start(dir: &Path, shim: Option<&Path>, cri: Option<&str>) -> Self {
        let config = dir.join("containerd.toml");
        fs::write(&config, configuration(dir, cri)).unwrap();
        let log = File::options().create(true).append(true).open(log(dir)).unwrap();
        let _ = fs::remove_file(socket(dir));
        let folders = shim.into_iter().map(Path::to_owned).chain([paths::binaries()]);
        let mut path: String = folders.map(|folder| format!("{}:", folder.display())).collect();
        path.push_str(&std::env::var("PATH").unwrap_or_default());
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .env("PATH", path)
            .env("SANDBOX_CONFIG", dir.join("sandbox.toml"))
            .env("SANDBOX_KILL_AT", kill_at(dir))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("containerd does not start: make deps installs it");
        let mut this = Self { child };
        until("containerd answers", Duration::from_secs(20), || {
            assert!(this.child.try_wait().unwrap().is_none(), "containerd has ended, see its log");
            UnixStream::connect(socket(dir)).and(UnixStream::connect(events_socket(dir))).ok()
        });
        this
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn configuration(dir: &Path, cri: Option<&str>) -> String {
    let dir = dir.display();
    let (first, disabled, last) = match cri {
        Some(cri) => ("", "", cri),
        None => ("version = 2\n", "\"io.containerd.grpc.v1.cri\",", ""),
    };
    // What is disabled costs time at every start and serves no test.
    format!(
        r#"{first}root = "{dir}/root"
state = "{dir}/run"
temp = "{dir}/temp"
disabled_plugins = [
  {disabled}
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
{last}
[debug]
level = "warn"
[grpc]
address = "{dir}/c.sock"
[ttrpc]
address = "{dir}/c.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"
"#
    )
}
