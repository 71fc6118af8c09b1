//! A containerd for one test or benchmark: the only place that configures and
//! starts one.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{paths, until};

/// Plugins that no test uses: each costs time at every start, or fails to load
/// on many machines. A plugin that [`Setup::tables`] configures is enabled.
const DISABLED: &[&str] = &[
    CRI,
    NRI,
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
];

const CRI: &str = "io.containerd.grpc.v1.cri";
const NRI: &str = "io.containerd.nri.v1.nri";

/// What a containerd is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Directory of its root, its state, its sockets, its configuration and
    /// its log. Sandbox's configuration is `sandbox.toml` in it.
    pub dir: PathBuf,
    /// Directories in which it looks for shims before those of `PATH`.
    pub shims: Vec<PathBuf>,
    /// Tables of its configuration beside the usual ones.
    pub tables: String,
    /// Enables the CRI with this configuration, which begins with the version
    /// of the format.
    pub cri: Option<String>,
}

/// A running containerd.
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

/// The file that names the point at which a shim ends.
pub fn kill_at(dir: &Path) -> PathBuf {
    dir.join("kill-at")
}

/// Its log.
pub fn log(dir: &Path) -> PathBuf {
    dir.join("containerd.log")
}

impl Containerd {
    /// Starts it and waits until it accepts connections. May be called again
    /// on the same directory once the last one has ended.
    pub fn start(setup: &Setup) -> Self {
        let dir = setup.dir.as_path();
        let config = dir.join("containerd.toml");
        fs::write(&config, setup.configuration()).unwrap();
        let log = File::options().create(true).append(true).open(log(dir)).unwrap();
        let _ = fs::remove_file(socket(dir));
        let mut path: String =
            setup.shims.iter().map(|shims| format!("{}:", shims.display())).collect();
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

impl Setup {
    /// Of a containerd in `dir` that finds the shim of this tree.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            shims: vec![paths::binaries()],
            tables: String::new(),
            cri: None,
        }
    }

    fn configuration(&self) -> String {
        let (dir, tables) = (self.dir.display(), &self.tables);
        let (first, cri) = match &self.cri {
            Some(cri) => ("", cri.as_str()),
            None => ("version = 2\n", ""),
        };
        // The CRI needs the NRI.
        let enabled = if self.cri.is_some() { &[CRI, NRI][..] } else { &[] };
        let disabled: Vec<&&str> = DISABLED
            .iter()
            .filter(|plugin| !tables.contains(**plugin) && !enabled.contains(plugin))
            .collect();
        format!(
            r#"{first}root = "{dir}/root"
state = "{dir}/run"
temp = "{dir}/temp"
disabled_plugins = {disabled:?}
{cri}
[debug]
level = "warn"
[grpc]
address = "{dir}/c.sock"
[ttrpc]
address = "{dir}/c.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"
{tables}"#
        )
    }
}
