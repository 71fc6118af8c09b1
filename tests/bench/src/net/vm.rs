//! A container in a microVM, whose way out is the pod's interface: containerd,
//! the shim and all that belongs to them, in a folder of their own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sandbox_tests::{Containerd, Setup};
use tempfile::TempDir;

use crate::backend::PUBLISHED;
use crate::deadline;
use crate::plan::Plan;
use crate::space::{POD, Space};

/// How long a boot may take, and what comes before and after it.
const START: Duration = Duration::from_secs(60);

/// How long one try to reach the guest may take.
const FIRST: Duration = Duration::from_secs(5);

/// The container, and its only one.
const ID: &str = "bench-net";

/// It ends with this.
pub struct Vm {
    folder: TempDir,
    /// None once it is killed.
    containerd: Option<Containerd>,
    execs: AtomicUsize,
    /// The process that serves the network device.
    pub io: u32,
}

impl Vm {
    /// Boots it, and answers when what it serves can be reached.
    pub fn start(plan: &Plan, space: &Space) -> Result<Self> {
        // Short: paths of sockets are.
        let folder = tempfile::Builder::new().prefix("bn-").tempdir_in("/run")?;
        configure(plan, folder.path())?;
        let mut setup = Setup::new(folder.path());
        setup.shims = vec![fs::canonicalize(&plan.bin)?];
        let containerd = Some(Containerd::start(&setup));
        let mut vm = Self { folder, containerd, execs: AtomicUsize::new(0), io: 0 };
        vm.run(plan, space).with_context(|| vm.log())?;
        vm.io = io_process(&space.pod_path())?;
        Ok(vm)
    }

    fn run(&self, plan: &Plan, space: &Space) -> Result<()> {
        let root = self.folder.path().join("rootfs");
        fs::create_dir(&root)?;
        fs::copy(&plan.toolbox, root.join("toolbox")).context("the toolbox")?;
        let network = format!("network:{}", space.pod_path());
        let served = format!("0.0.0.0:{PUBLISHED}");
        let mut command = self.ctr();
        command
            .args(["run", "-d", "--runtime", "io.sandbox.v1", "--with-ns", &network, "--rootfs"])
            .arg(&root)
            .args([ID, "/toolbox", "load", "serve", &served]);
        let out = deadline::output(&mut command, START)?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr).trim());
        let first = format!("{POD}:{PUBLISHED}");
        until("the guest's server", || {
            let mut command = space.command("world", &plan.toolbox);
            command.args(["load", "churn", &first, "1"]);
            deadline::output(&mut command, FIRST).is_ok_and(|out| out.status.success())
        })
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.folder.path().join("c.sock"));
        command
    }

    /// A program in the container.
    pub fn command(&self, program: &str) -> Command {
        // A load that stalled is still there under its name.
        let exec = format!("load-{}", self.execs.fetch_add(1, Ordering::Relaxed));
        let mut command = self.ctr();
        command.args(["task", "exec", "--exec-id", &exec, ID, program]);
        command
    }

    fn log(&self) -> String {
        let text =
            fs::read_to_string(self.folder.path().join("containerd.log")).unwrap_or_default();
        text.lines().rev().take(5).collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        for arguments in [&["task", "rm", "--force", ID][..], &["container", "rm", ID]] {
            let _ = deadline::output(self.ctr().args(arguments), START);
        }
        if let Some(containerd) = self.containerd.take() {
            containerd.kill();
        }
    }
}

fn configure(plan: &Plan, folder: &Path) -> Result<()> {
    let at = folder.display();
    let (bin, guest) = (fs::canonicalize(&plan.bin)?, fs::canonicalize(&plan.guest)?);
    let text = format!(
        "kernel = {:?}\ninitramfs = {:?}\nvmm = {:?}\nstate_dir = \"{at}/state\"\n",
        guest.join("vmlinux"),
        guest.join("initramfs.cpio"),
        bin.join("sandbox-vmm"),
    );
    Ok(fs::write(folder.join("sandbox.toml"), text)?)
}

fn until(what: &str, done: impl Fn() -> bool) -> Result<()> {
    let (started, limit) = (Instant::now(), deadline::under_load(START));
    while !done() {
        ensure!(started.elapsed() < limit, "{what} is not there after {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The `sandbox-vmm io` that is in the pod's namespace.
fn io_process(namespace: &str) -> Result<u32> {
    let inode = fs::metadata(namespace)?.ino();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let proc: PathBuf = entry.path();
        let is_io = fs::read(proc.join("cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(b"io".as_slice()));
        if is_io && fs::metadata(proc.join("ns/net")).is_ok_and(|found| found.ino() == inode) {
            return Ok(pid);
        }
    }
    bail!("no io process is in the pod's namespace")
}
