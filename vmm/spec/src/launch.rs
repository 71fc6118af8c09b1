//! How the shim starts the processes of a sandbox, and their reports.
//!
//! Each is `sandbox-vmm <kvm|qemu|io|fs>` with a cleared environment and file
//! descriptor [`CONTROL_FD`] open: one end of a stream socketpair. The shim
//! writes one JSON line, the [`Launch`] of that process, which names every
//! other inherited descriptor by its number. The process answers with JSON
//! lines, each a [`Report`], and exits when its end of the socket reads EOF:
//! the shim has exited.
//!
//! Each device is a vhost-user backend in `io` or `fs`. The shim makes a
//! listening Unix socket for each, connects to it once, unlinks it, and passes
//! the listener to the backend and the connection to the engine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::VmSpec;
use crate::devices::DeviceKind;
use crate::fd::Fd;
use crate::network::{LinkSpec, NetworkLaunch};

/// The control socket in every process of `sandbox-vmm`.
pub const CONTROL_FD: i32 = 3;

/// Longest JSON line in either direction. A peer that sends more without a
/// newline is broken.
pub const MAX_LINE: usize = 64 * 1024;

/// The launch message: the first line on a process's control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "lowercase", deny_unknown_fields)]
pub enum Launch {
    /// Runs the virtual machine on `/dev/kvm`.
    Kvm(KvmLaunch),
    /// Runs the virtual machine in QEMU.
    Qemu(QemuLaunch),
    /// Serves rng, vsock, net and blk.
    Io(IoLaunch),
    /// Serves the pod's share.
    Fs(FsLaunch),
}

impl Launch {
    /// The sandbox's id.
    pub fn sandbox(&self) -> &str {
        match self {
            Self::Kvm(launch) => &launch.sandbox,
            Self::Qemu(launch) => &launch.sandbox,
            Self::Io(launch) => &launch.sandbox,
            Self::Fs(launch) => &launch.sandbox,
        }
    }
}

/// A device's end of its vhost-user socket: for the process that serves it a
/// listener, for the engine a connection to that listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSocket {
    /// Which device.
    pub kind: DeviceKind,
    /// Listener or connection.
    pub socket: Fd,
}

/// See [`Launch::Kvm`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvmLaunch {
    /// The sandbox's id, for the log.
    #[serde(default)]
    pub sandbox: String,
    /// The machine.
    pub vm: VmSpec,
    /// `/dev/kvm`, open for reading and writing.
    pub kvm: Fd,
    /// Uncompressed `vmlinux`, open for reading.
    pub kernel: Fd,
    /// initramfs, open for reading.
    pub initramfs: Fd,
    /// The console log, open for writing; the engine bounds it to `console_max` bytes.
    pub console: Fd,
    /// Most bytes in the console log: what a guest that prints forever may fill.
    pub console_max: u64,
    /// The guest's devices, in the order of their MMIO slots.
    pub devices: Vec<DeviceSocket>,
}

/// See [`Launch::Qemu`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuLaunch {
    /// The sandbox's id, for the log.
    #[serde(default)]
    pub sandbox: String,
    /// The machine.
    pub vm: VmSpec,
    /// Absolute path of `qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// `tcg`, or `kvm` in benchmarks that compare machines.
    pub accel: String,
    /// Uncompressed `vmlinux`, open for reading.
    pub kernel: Fd,
    /// initramfs, open for reading.
    pub initramfs: Fd,
    /// The console log, open for writing; bounded to `console_max` bytes.
    pub console: Fd,
    /// Most bytes in the console log.
    pub console_max: u64,
    /// The guest's devices.
    pub devices: Vec<DeviceSocket>,
    /// Tag by which the guest mounts the share: QEMU does not ask the backend.
    pub tag: String,
    /// The link of the net device, if there is one: QEMU does not ask.
    #[serde(default)]
    pub link: Option<LinkSpec>,
}

/// See [`Launch::Io`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoLaunch {
    /// The sandbox's id, for the log.
    #[serde(default)]
    pub sandbox: String,
    /// The devices to serve.
    pub devices: Vec<DeviceSocket>,
    /// Context id of the guest.
    pub cid: u32,
    /// Directory that holds the pod's vsock sockets and nothing else; it becomes
    /// the root of the process.
    pub sockets: PathBuf,
    /// Listening Unix socket for host-initiated connections (`CONNECT port\n`),
    /// bound by the shim at `<sockets>/vsock.sock`.
    pub listener: Fd,
    /// Host ports that the guest may connect to; port P is the Unix socket
    /// `vsock.sock_P` in `sockets`. Others are reset.
    pub guest_ports: Vec<u32>,
    /// The pod's network, for the net device.
    #[serde(default)]
    pub network: Option<NetworkLaunch>,
    /// The end of the socket pair by which the shim sends
    /// [requests](crate::disks::Request), for the blk device.
    #[serde(default)]
    pub disks: Option<Fd>,
}

/// See [`Launch::Fs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsLaunch {
    /// The sandbox's id, for the log.
    #[serde(default)]
    pub sandbox: String,
    /// The device to serve: the fs device and no other.
    pub devices: Vec<DeviceSocket>,
    /// Tag by which the guest mounts the share.
    pub tag: String,
    /// Whether the backend offers its config space, and with it the tag, to
    /// the engine: for `kvm`. QEMU 7.1 to 8.0 crashes on a backend that does.
    pub config: bool,
    /// The pod's share, a mount point with shared propagation; it becomes the
    /// root of the process, so that later mounts below it appear.
    pub share: PathBuf,
}

/// A line from a process to the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "lowercase", deny_unknown_fields)]
pub enum Report {
    /// `io`, `fs`: jailed and serving. `kvm`: vCPUs are about to run. `qemu`:
    /// QEMU is about to be executed.
    Ready,
    /// `kvm`: a step of the boot was reached, `micros` after the process began.
    Stage {
        /// Name of the step.
        name: String,
        /// Microseconds since the process began.
        micros: u64,
    },
    /// `kvm`, `qemu`: the machine has ended by itself. The process exits with
    /// status 0.
    Ended {
        /// Why.
        end: VmEnd,
    },
    /// The process cannot go on and exits with a status other than 0.
    Failed {
        /// The error with its causes.
        error: String,
    },
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmEnd {
    /// The guest asked for a reset or a power-off (keyboard controller port
    /// 0x64). QEMU reports a triple fault as a reset, too.
    Reset,
    /// The guest's CPU shut down by a triple fault.
    TripleFault,
    /// KVM or QEMU failed; the reason.
    Error(String),
}
