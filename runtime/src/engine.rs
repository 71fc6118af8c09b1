//! The engines that run a virtual machine.

mod choose;
mod probe;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sandbox_agent_protocol::SHARE_TAG;
use sandbox_vm_spec::devices::DeviceKind;
use sandbox_vm_spec::launch::{DeviceSocket, KvmLaunch, Launch, QemuLaunch};
use sandbox_vm_spec::network::LinkSpec;
use sandbox_vm_spec::{Fd, VmSpec};
use tokio::task::spawn_blocking;

use crate::cgroup::Cgroup;
use crate::control::Control;
use crate::process::{HostProcess, Launcher};

pub use choose::{Chosen, EngineError, choose};
pub use probe::{Probe, probe};

/// Most bytes of console that a guest may leave on the host: it may print
/// without end, and the pod's directory is in memory.
const CONSOLE_MAX: u64 = 1024 * 1024;
/// First number of the descriptors after the control socket.
const FIRST_FD: Fd = sandbox_vm_spec::launch::CONTROL_FD + 1;

/// The parts of a machine.
pub(crate) struct Parts {
    /// The sandbox's id.
    pub sandbox: String,
    /// Uncompressed `vmlinux`.
    pub kernel: File,
    /// initramfs.
    pub initramfs: File,
    /// Where the console goes.
    pub console: File,
    /// Devices with the connected vhost-user sockets of their backends.
    pub devices: Vec<(DeviceKind, OwnedFd)>,
    /// The guest's end of the net device's link.
    pub link: LinkSpec,
    /// Where its processes are accounted.
    pub cgroup: Cgroup,
}

/// A machine that is being run.
pub(crate) struct Vm {
    /// The process that runs it; waiting for it and killing it is that to the
    /// machine.
    pub process: HostProcess,
    /// Its control socket.
    pub control: Control,
}

/// A way to run machines.
#[async_trait]
pub(crate) trait Engine: Send + Sync {
    /// As it is called in the configuration.
    fn name(&self) -> &'static str;
    /// Starts the machine.
    async fn boot(&self, spec: &VmSpec, parts: Parts) -> io::Result<Vm>;
}

/// `sandbox-vmm kvm`.
pub(crate) struct Kvm {
    /// The binary.
    pub vmm: PathBuf,
}

/// `sandbox-vmm qemu`.
pub(crate) struct Qemu {
    /// The binary.
    pub vmm: PathBuf,
    /// QEMU, as an absolute path.
    pub qemu: PathBuf,
}

#[async_trait]
impl Engine for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    async fn boot(&self, spec: &VmSpec, parts: Parts) -> io::Result<Vm> {
        let kvm = File::options().read(true).write(true).open("/dev/kvm")?;
        let mut fds = Inherited::default();
        let launch = Launch::Kvm(KvmLaunch {
            sandbox: parts.sandbox,
            vm: spec.clone(),
            kvm: fds.add(kvm.into()),
            kernel: fds.add(parts.kernel.into()),
            initramfs: fds.add(parts.initramfs.into()),
            console: fds.add(parts.console.into()),
            console_max: CONSOLE_MAX,
            devices: fds.sockets(parts.devices),
        });
        let (process, control) = fds.launch(&self.vmm, self.name(), &launch, &parts.cgroup).await?;
        Ok(Vm { process, control })
    }
}

#[async_trait]
impl Engine for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    async fn boot(&self, spec: &VmSpec, parts: Parts) -> io::Result<Vm> {
        let mut fds = Inherited::default();
        let launch = Launch::Qemu(QemuLaunch {
            sandbox: parts.sandbox,
            vm: spec.clone(),
            qemu: self.qemu.clone(),
            accel: "tcg".to_owned(),
            kernel: fds.add(parts.kernel.into()),
            initramfs: fds.add(parts.initramfs.into()),
            console: fds.add(parts.console.into()),
            console_max: CONSOLE_MAX,
            devices: fds.sockets(parts.devices),
            tag: SHARE_TAG.to_owned(),
            link: Some(parts.link),
        });
        let (process, control) = fds.launch(&self.vmm, self.name(), &launch, &parts.cgroup).await?;
        Ok(Vm { process, control })
    }
}

/// A sandbox runs without a cgroup, too: the host may not allow one.
async fn join(cgroup: Cgroup, pid: u32) {
    let joined = spawn_blocking(move || cgroup.join(pid)).await;
    if let Ok(Err(error)) = joined {
        tracing::warn!("a process runs outside of its sandbox's cgroup: {error}");
    }
}

/// Descriptors of a process of `sandbox-vmm`, numbered as they come.
#[derive(Default)]
pub(crate) struct Inherited {
    fds: Vec<(OwnedFd, Fd)>,
}

impl Inherited {
    /// Its number in the process.
    pub fn add(&mut self, fd: OwnedFd) -> Fd {
        let number = self.fds.last().map_or(FIRST_FD, |(_, last)| last + 1);
        self.fds.push((fd, number));
        number
    }

    /// Their numbers in the process.
    pub fn sockets(&mut self, devices: Vec<(DeviceKind, OwnedFd)>) -> Vec<DeviceSocket> {
        let add = |(kind, socket)| DeviceSocket { kind, socket: self.add(socket) };
        devices.into_iter().map(add).collect()
    }

    /// Starts `sandbox-vmm <command>` and sends its task once it is in its
    /// cgroup, so that its own children are in there, too.
    pub async fn launch(
        self,
        vmm: &Path,
        command: &str,
        launch: &Launch,
        cgroup: &Cgroup,
    ) -> io::Result<(HostProcess, Control)> {
        let (mut control, theirs) = Control::pair()?;
        let mut fds = self.fds;
        fds.push((theirs, sandbox_vm_spec::launch::CONTROL_FD));
        let process = HostProcess::spawn(Launcher { program: vmm, args: &[command], fds }).await?;
        join(cgroup.clone(), process.id().pid).await;
        control.launch(launch).await?;
        Ok((process, control))
    }
}
