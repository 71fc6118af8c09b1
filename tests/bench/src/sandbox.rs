//! Boots a machine with the processes of `sandbox-vmm`, as the shim does.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use command_fds::{CommandFdExt, FdMapping};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Guest;
use crate::figure::Boot;
use crate::watch::{Seen, Watch};

/// Descriptor of the control socket in each process.
const CONTROL_FD: i32 = 3;
/// Host port to which the agent connects when it can serve.
const AGENT_PORT: u32 = 1024;
/// Tag of the share.
const TAG: &str = "share";
/// What the agent writes on the console first.
pub const AGENT_STARTS: &str = "sandbox-agent: start";

/// Which machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Ours.
    Kvm,
    /// QEMU's microvm on KVM, with the same backends.
    QemuOnKvm,
}

/// Boots once and ends everything again.
pub fn boot(engine: Engine, vmm: &Path, guest: &Guest) -> Result<Boot> {
    let pod = Pod::new()?;
    let start = Instant::now();
    let mut running = Running::default();
    let mut watch = Watch::new(start, pod.agent_listener()?);
    let devices = start_backends(engine, &pod, vmm, &mut running, &mut watch)?;
    start_machine(engine, &pod, vmm, guest, devices, &mut running, &mut watch)?;

    let mut marks = Marks::default();
    let mut console = Vec::new();
    let connected = watch.until_connected(|at, seen| {
        if let Seen::Line("console", line) = &seen {
            if guest.console {
                eprintln!("{line}");
            }
            console.push(line.clone());
        }
        marks.see(at, seen)
    });
    connected.with_context(|| format!("the console says: {}", console.join(" | ")))?;
    Ok(Boot { marks: marks.in_order() })
}

/// The folder of a machine.
struct Pod(TempDir);

impl Pod {
    fn new() -> Result<Self> {
        // /run: in the lab only it is plain memory.
        let pod = Self(TempDir::new_in("/run")?);
        fs::create_dir(pod.path("vsock"))?;
        fs::create_dir(pod.path("share"))?;
        mount(Some("bench"), &pod.path("share"), Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .context("mounting the share; this needs root")?;
        Ok(pod)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn agent_listener(&self) -> Result<UnixListener> {
        Ok(UnixListener::bind(self.path(&format!("vsock/vsock.sock_{AGENT_PORT}")))?)
    }

    /// A vhost-user socket: the backend's end, and the machine's.
    fn vhost_user(&self) -> Result<(UnixListener, UnixStream)> {
        let path = self.path("vhost-user.sock");
        let listener = UnixListener::bind(&path)?;
        let stream = UnixStream::connect(&path)?;
        fs::remove_file(path)?;
        Ok((listener, stream))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = umount2(&self.path("share"), MntFlags::MNT_DETACH);
    }
}

/// The processes; they end with this.
#[derive(Default)]
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Running {
    /// Starts a process with its launch message and the descriptors in it,
    /// which are numbered from 4.
    fn start(
        &mut self,
        vmm: &Path,
        name: &'static str,
        launch: &Value,
        fds: Vec<OwnedFd>,
        watch: &mut Watch,
    ) -> Result<()> {
        let (mut ours, theirs) = UnixStream::pair()?;
        writeln!(ours, "{launch}")?;
        let mappings = (CONTROL_FD..)
            .zip([OwnedFd::from(theirs)].into_iter().chain(fds))
            .map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd })
            .collect();
        let mut command = Command::new(vmm);
        command.arg(name).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        command.fd_mappings(mappings)?;
        let child = command.spawn().with_context(|| format!("starting {}", vmm.display()))?;
        self.0.push(child);
        watch.add(name, ours.into());
        Ok(())
    }
}

/// The machine's ends of its devices, by their kind.
type Devices = Vec<(&'static str, UnixStream)>;

fn start_backends(
    engine: Engine,
    pod: &Pod,
    vmm: &Path,
    running: &mut Running,
    watch: &mut Watch,
) -> Result<Devices> {
    let (rng, rng_machine) = pod.vhost_user()?;
    let (vsock, vsock_machine) = pod.vhost_user()?;
    let (blk, blk_machine) = pod.vhost_user()?;
    let host = UnixListener::bind(pod.path("vsock/vsock.sock"))?;
    // Nobody attaches a disk.
    let (_, requests) = UnixStream::pair()?;
    let io = json!({
        "process": "io", "listener": 6, "cid": 3,
        "sockets": pod.path("vsock"), "guest_ports": [AGENT_PORT], "disks": 8,
        "devices": [
            { "kind": "rng", "socket": 4 },
            { "kind": "vsock", "socket": 5 },
            { "kind": "blk", "socket": 7 },
        ],
    });
    let fds = vec![rng.into(), vsock.into(), host.into(), blk.into(), requests.into()];
    running.start(vmm, "io", &io, fds, watch)?;
    let (share, share_machine) = pod.vhost_user()?;
    // QEMU 7.2 crashes on a backend that offers its config space.
    let fs = json!({
        "process": "fs", "devices": [{ "kind": "fs", "socket": 4 }], "tag": TAG, "share": pod.path("share"),
        "config": engine == Engine::Kvm,
    });
    running.start(vmm, "fs", &fs, vec![share.into()], watch)?;
    Ok(vec![
        ("vsock", vsock_machine),
        ("fs", share_machine),
        ("rng", rng_machine),
        ("blk", blk_machine),
    ])
}

fn start_machine(
    engine: Engine,
    pod: &Pod,
    vmm: &Path,
    guest: &Guest,
    devices: Devices,
    running: &mut Running,
    watch: &mut Watch,
) -> Result<()> {
    let console_path = pod.path("console.log");
    let console = File::create(&console_path)?;
    let mut fds: Vec<OwnedFd> =
        vec![open(&guest.vmlinux)?, open(&guest.initramfs)?, console.into()];
    let mut launch = json!({
        "vm": { "vcpus": guest.vcpus, "memory_mib": guest.memory_mib, "cmdline": guest.cmdline },
        "kernel": 4, "initramfs": 5, "console": 6, "console_max": 1 << 20,
    });
    let kinds = devices.iter().map(|(kind, _)| *kind).zip(7..);
    launch["devices"] =
        kinds.map(|(kind, socket)| json!({ "kind": kind, "socket": socket })).collect();
    fds.extend(devices.into_iter().map(|(_, socket)| socket.into()));
    let name = match engine {
        Engine::Kvm => {
            launch["kvm"] = json!(fds.len() + 4);
            let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
            fds.push(kvm.context("opening /dev/kvm")?.into());
            "kvm"
        }
        Engine::QemuOnKvm => {
            launch["qemu"] = json!("/usr/bin/qemu-system-x86_64");
            launch["accel"] = json!("kvm");
            launch["tag"] = json!(TAG);
            "qemu"
        }
    };
    launch["process"] = json!(name);
    watch.follow("console", &console_path)?;
    running.start(vmm, name, &launch, fds, watch)
}

fn open(path: &Path) -> Result<OwnedFd> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(file.into())
}

/// What the processes have told of the boot so far.
#[derive(Default)]
struct Marks {
    /// The end of each stage.
    reached: Vec<(String, Duration)>,
    /// When the machine said that its vCPUs run.
    ready: Option<Duration>,
    /// Steps of the machine, each with the time since its process began.
    steps: Vec<(String, Duration)>,
}

impl Marks {
    fn see(&mut self, at: Duration, seen: Seen) -> Result<()> {
        match seen {
            Seen::Connected => self.reached.push(("agent".to_owned(), at)),
            Seen::Line("console", line) => {
                if line.contains(AGENT_STARTS) {
                    self.reached.push(("kernel".to_owned(), at));
                }
            }
            Seen::Line(process, line) => self.report(process, at, &serde_json::from_str(&line)?)?,
        }
        Ok(())
    }

    /// A line of a control socket.
    fn report(&mut self, process: &str, at: Duration, report: &Value) -> Result<()> {
        match report["report"].as_str() {
            Some("ready") if process == "kvm" => self.ready = Some(at),
            Some("stage") => {
                let name = report["name"].as_str().unwrap_or("?").to_owned();
                let micros = report["micros"].as_u64().unwrap_or(0);
                self.steps.push((name, Duration::from_micros(micros)));
            }
            Some("failed" | "ended") => bail!("{process} says {report}"),
            _ => {}
        }
        Ok(())
    }

    /// All marks in the order of their time. The process of the machine says
    /// that it is ready as soon as it has reached `running`, which ties its
    /// clock to ours.
    fn in_order(mut self) -> Vec<(String, Duration)> {
        let running = self.steps.iter().find(|(name, _)| name == "running").map(|(_, at)| *at);
        if let (Some(ready), Some(running)) = (self.ready, running) {
            let began = ready.saturating_sub(running);
            self.reached.push(("processes".to_owned(), began));
            self.reached.extend(self.steps.into_iter().map(|(name, at)| (name, began + at)));
        }
        self.reached.sort_by_key(|(_, at)| *at);
        self.reached
    }
}
