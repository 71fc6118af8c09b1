//! The ways out of the guest's namespace.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::deadline;
use crate::plan::Plan;
use crate::space::{POD, Space, WORLD};
use crate::vm::Vm;

/// The first port of what the guest serves.
pub const PUBLISHED: u16 = 5401;

/// How long a backend may take to be there.
const START: Duration = Duration::from_secs(20);

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What runc has: the pod's own interface, and nobody between.
    Veth,
    /// passt's mode for namespaces.
    Pasta,
    /// libslirp on a tap device.
    Slirp,
    /// `netstack-tap`.
    Netstack {
        /// Checksums and segmentation left to the other side.
        offload: bool,
        /// A policy of so many rules.
        rules: Option<usize>,
    },
    /// A container in a microVM, on the engine that `auto` picks.
    Vm,
}

impl Kind {
    /// As in figures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::Pasta => "pasta",
            Self::Slirp => "slirp4netns",
            Self::Vm => "vm",
            Self::Netstack { offload: true, rules: None } => "netstack",
            Self::Netstack { offload: false, .. } => "netstack-plain",
            Self::Netstack { rules: Some(10), .. } => "rules-10",
            Self::Netstack { rules: Some(1_000), .. } => "rules-1000",
            Self::Netstack { rules: Some(_), .. } => "rules-10000",
        }
    }

    /// Whether it is there only to be compared with itself without rules.
    pub fn has_rules(&self) -> bool {
        matches!(self, Self::Netstack { rules: Some(_), .. })
    }

    /// Whether it is one of ours, all of which have to be measured.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Netstack { .. } | Self::Vm)
    }
}

/// One that runs; it ends with this.
pub struct Backend {
    kind: Kind,
    child: Option<Child>,
    vm: Option<Vm>,
    folder: TempDir,
}

impl Backend {
    /// Starts it, and answers when the guest is connected.
    pub fn start(kind: Kind, plan: &Plan, space: &Space, mtu: u16) -> Result<Self> {
        let mut backend = Self { kind, child: None, vm: None, folder: TempDir::new()? };
        let folder = &backend.folder;
        let mut command = match kind {
            Kind::Veth => return Ok(backend),
            Kind::Vm => {
                backend.vm = Some(Vm::start(plan, space)?);
                return Ok(backend);
            }
            Kind::Pasta => pasta(space, mtu),
            Kind::Slirp => slirp(space, mtu, folder.path()),
            Kind::Netstack { offload, rules } => {
                netstack(plan, space, mtu, offload, rules, folder.path())?
            }
        };
        let log = fs::File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", kind.name()))?;
        backend.child = Some(child);
        backend.wait(space)?;
        Ok(backend)
    }

    fn wait(&mut self, space: &Space) -> Result<()> {
        let (kind, folder) = (self.kind, self.folder.path().to_owned());
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        if matches!(kind, Kind::Netstack { .. }) {
            let out = self.child.as_mut().and_then(|child| child.stdout.take());
            let line = deadline::line(out.context("no stdout")?, START)?;
            ensure!(line == "ready\n", "netstack-tap is not ready: {}", log());
            return Ok(());
        }
        // The others do not say; what they have done can be seen.
        let (started, limit) = (Instant::now(), deadline::under_load(START));
        let api = folder.join("api");
        while !space.guest_has_route() || (kind == Kind::Slirp && !api.exists()) {
            ensure!(started.elapsed() < limit, "{} is not there: {}", kind.name(), log());
        }
        if kind == Kind::Slirp {
            (0..4).try_for_each(|offset| forward(&api, PUBLISHED + offset))?;
        }
        Ok(())
    }

    /// A program where the guest's load runs.
    pub fn command(&self, space: &Space, program: &Path) -> Command {
        match &self.vm {
            Some(vm) => vm.command("/toolbox"),
            None if self.kind == Kind::Veth => space.command("pod", program),
            None => space.command("guest", program),
        }
    }

    fn pid(&self) -> Option<u32> {
        let child = self.child.as_ref().map(Child::id);
        self.vm.as_ref().map(|vm| vm.io).or(child)
    }

    /// Seconds of CPU that it has used, if it is a process at all. Its
    /// resolution is the kernel's tick.
    pub fn cpu(&self) -> Result<Option<f64>> {
        const TICKS: f64 = 100.0;
        let Some(pid) = self.pid() else { return Ok(None) };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name, which may have anything in it.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: f64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum();
        Ok(Some(ticks / TICKS))
    }

    /// KiB of memory that it has, if it is a process.
    pub fn memory(&self) -> Result<Option<f64>> {
        let Some(pid) = self.pid() else { return Ok(None) };
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        value.map(Some).context("no VmRSS")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pasta(space: &Space, mtu: u16) -> Command {
    let mut command = space.command("pod", "pasta");
    let ports: Vec<_> = (0..4).map(|offset| (PUBLISHED + offset).to_string()).collect();
    command
        .args(["-f", "-q", "--runas", "0", "--config-net", "--mtu", &mtu.to_string()])
        .args(["-a", "10.9.0.2", "-n", "255.255.255.0", "--no-map-gw"])
        .args(["--netns", &space.guest_path(), "-t", &ports.join(",")])
        .args(["-T", "none", "-u", "none", "-U", "none"]);
    command
}

fn slirp(space: &Space, mtu: u16, folder: &Path) -> Command {
    let mut command = space.command("pod", "slirp4netns");
    command
        .args(["--configure", &format!("--mtu={mtu}"), "--netns-type=path", "--enable-ipv6"])
        .arg("--api-socket")
        .arg(folder.join("api"))
        .args([&space.guest_path(), "tap0"]);
    command
}

/// Asks slirp4netns for a port.
fn forward(api: &Path, port: u16) -> Result<()> {
    let mut stream = UnixStream::connect(api).context("slirp4netns's API socket")?;
    stream.set_read_timeout(Some(deadline::under_load(START)))?;
    let request = serde_json::json!({
        "execute": "add_hostfwd",
        "arguments": {
            "proto": "tcp", "host_addr": POD.to_string(), "host_port": port,
            "guest_addr": "10.0.2.100", "guest_port": port,
        },
    });
    stream.write_all(request.to_string().as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains("error") {
        bail!("slirp4netns does not forward port {port}: {answer}");
    }
    Ok(())
}

fn netstack(
    plan: &Plan,
    space: &Space,
    mtu: u16,
    offload: bool,
    rules: Option<usize>,
    folder: &Path,
) -> Result<Command> {
    let mut command = space.command("pod", &plan.tap);
    command.args(["--netns", &space.guest_path(), "--mtu", &mtu.to_string()]);
    for offset in 0..4 {
        command.args(["--publish", &(PUBLISHED + offset).to_string()]);
    }
    if !offload {
        command.arg("--no-offload");
    }
    if let Some(rules) = rules {
        let file = folder.join("policy.toml");
        fs::write(&file, policy(rules))?;
        command.arg("--policy").arg(file);
    }
    Ok(command)
}

/// The world is allowed by the last of so many rules, each for a network and a
/// port of its own.
fn policy(rules: usize) -> String {
    let mut text =
        String::from("version = 1\ndefaults = { egress = \"deny\", ingress = \"allow\" }\n");
    for n in 1..rules {
        let _ = write!(
            text,
            "[[rule]]\nid = \"r{n}\"\ndir = \"egress\"\naction = \"allow\"\n\
             cidr = [\"20.{}.{}.0/24\"]\nports = [{}]\n",
            n / 256,
            n % 256,
            1 + n % 60_000,
        );
    }
    let _ = write!(
        text,
        "[[rule]]\nid = \"world\"\ndir = \"egress\"\naction = \"allow\"\ncidr = [\"{WORLD}/32\"]\n",
    );
    text
}
