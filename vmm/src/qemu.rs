//! The qemu engine: QEMU's microvm machine with the devices of the other
//! processes as its vhost-user backends.
//!
//! This process stays QEMU's parent: it keeps the console log bounded, reports
//! to the shim how QEMU ended, and QEMU ends with it. Both are jailed.

mod arguments;
mod output;
mod relay;
mod tsc;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use sandbox_vm_spec::SpecError;
use sandbox_vm_spec::devices::{DeviceKind, QemuLink};
use sandbox_vm_spec::failure::chain;
use sandbox_vm_spec::launch::{DeviceSocket, QemuLaunch, Report, VmEnd};

use crate::console::Console;
use crate::control::{Control, ControlError, exit_now, inherited};
use crate::jail::{Entry, Jail, JailError, Network, Root};
use arguments::{Accelerator, Arguments};
use output::Output;
use relay::Relay;
use tsc::Reading;

/// QEMU's own files beside those it inherits; it opens few.
const MAX_FILES: u64 = 1024;
/// Directory in QEMU's jail by which it opens kernel and initramfs, which it
/// takes by name only.
const OWN_FDS: &str = "/fd";
/// What QEMU and the libraries it is linked with need of the host.
const DIRECTORIES: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32"];
const FILES: [&str; 4] = ["/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/urandom"];

/// The machine cannot be run in QEMU.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The shim cannot be heard, or did not pass a descriptor.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The jail of this process could not be entered.
    #[error(transparent)]
    Jail(#[from] JailError),
    /// Not an accelerator of QEMU that is known here.
    #[error("invalid accelerator {0:?}: neither \"tcg\" nor \"kvm\"")]
    Accelerator(String),
    /// The tag would be read as more than a tag.
    #[error("invalid tag {0:?} of the share: only letters, digits and dashes are allowed")]
    Tag(String),
    /// The path of QEMU is not absolute.
    #[error("invalid path {} of QEMU: not absolute", .0.display())]
    Path(PathBuf),
    #[error("cannot execute {}{printed}", path.display())]
    Execute { path: PathBuf, printed: String, source: io::Error },
    #[error("invalid launch message: a net device without a link")]
    Link,
    /// QEMU's way to the net device's backend cannot be made.
    #[error("cannot relay between QEMU and the backend of the net device")]
    Relay(#[source] io::Error),
    #[error("cannot read the output of QEMU")]
    Follow(#[source] io::Error),
    /// QEMU ended otherwise than by its guest.
    #[error("QEMU ended with {status}{printed}")]
    Died { status: String, printed: String },
}

/// What QEMU inherits.
struct Inherited {
    kernel: OwnedFd,
    initramfs: OwnedFd,
    devices: Vec<(DeviceKind, Socket)>,
}

/// How QEMU reaches a backend.
enum Socket {
    /// By a connected socket.
    Connected(OwnedFd),
    /// By a relay that it connects to.
    Relayed(Relay),
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Socket::Connected(socket) => socket.as_raw_fd(),
            Socket::Relayed(relay) => relay.file(),
        }
    }
}

/// Runs the machine until it ends.
pub fn run(launch: QemuLaunch, control: &Control) -> Result<(), Error> {
    let tsc = Reading::now();
    launch.vm.validate()?;
    let console: File = inherited(launch.console, "console log")?.into();
    let inherited = Inherited::take(&launch)?;
    let (mut child, output) = start(&launch, &inherited, tsc)?;
    let relays = inherited.relays();
    let (root, network) = (Root::Files(Vec::new()), Network::None);
    Jail { root, network, capabilities: &[], files: 64, memory: None }.enter()?;
    for relay in relays {
        relay.start().map_err(Error::Relay)?;
    }
    control.report(&Report::Ready)?;
    let printed = output.follow(control, Console::new(console, launch.console_max));
    let printed = printed.map_err(Error::Follow)?;
    let status = child.wait().map_err(Error::Follow)?;
    if !status.success() {
        return Err(Error::Died { status: describe_status(status), printed });
    }
    control.report(&Report::Ended { end: VmEnd::Reset })?;
    Ok(())
}

impl Inherited {
    fn take(launch: &QemuLaunch) -> Result<Self, Error> {
        let kernel = inherited(launch.kernel, "kernel")?;
        let initramfs = inherited(launch.initramfs, "initramfs")?;
        let devices = launch.devices.iter().map(Self::device).collect::<Result<_, _>>()?;
        Ok(Self { kernel, initramfs, devices })
    }

    fn device(backend: &DeviceSocket) -> Result<(DeviceKind, Socket), Error> {
        let socket = inherited(backend.socket, "vhost-user socket")?;
        let socket = match backend.kind.spec().qemu_link {
            QemuLink::Netdev => Socket::Relayed(Relay::new(socket).map_err(Error::Relay)?),
            QemuLink::Chardev => Socket::Connected(socket),
        };
        Ok((backend.kind, socket))
    }

    fn fds(&self) -> Vec<RawFd> {
        let devices = self.devices.iter().map(|(_, socket)| socket.as_raw_fd());
        devices.chain([self.kernel.as_raw_fd(), self.initramfs.as_raw_fd()]).collect()
    }

    /// Closes what is QEMU's alone.
    fn relays(self) -> Vec<Relay> {
        let relay = |(_, socket)| match socket {
            Socket::Connected(_) => None,
            Socket::Relayed(relay) => Some(relay),
        };
        self.devices.into_iter().filter_map(relay).collect()
    }
}

fn start(
    launch: &QemuLaunch,
    inherited: &Inherited,
    tsc: Reading,
) -> Result<(Child, Output), Error> {
    if !launch.qemu.is_absolute() {
        return Err(Error::Path(launch.qemu.clone()));
    }
    let arguments = arguments(launch, inherited, tsc)?;
    let (output, stdout, stderr) = Output::new().map_err(Error::Follow)?;
    let failed = |printed, source| Error::Execute { path: launch.qemu.clone(), printed, source };
    let mut command = Command::new(&launch.qemu);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let (jail, fds, parent) = (jail(launch), inherited.fds(), std::process::id());
    let prepare = move || {
        jail.enter().map_err(|error| {
            // Only a number gets from here to the parent.
            eprintln!("{}", chain(&error));
            io::Error::from_raw_os_error(libc::EPERM)
        })?;
        for fd in &fds {
            keep(*fd)?;
        }
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: this process is single-threaded, so that everything is allowed
    // after the fork.
    unsafe { command.pre_exec(prepare) };
    let spawned = command.spawn();
    // The parent's copies of QEMU's ends.
    drop(command);
    match spawned {
        Ok(child) => Ok((child, output)),
        Err(source) => Err(failed(output.rest(), source)),
    }
}

/// Clears FD_CLOEXEC, so that QEMU inherits `fd`.
fn keep(fd: RawFd) -> io::Result<()> {
    // SAFETY: borrowed for this call; `Inherited` has it open.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

fn arguments(
    launch: &QemuLaunch,
    inherited: &Inherited,
    tsc: Reading,
) -> Result<Vec<OsString>, Error> {
    let accelerator = Accelerator::named(&launch.accel)?;
    let name = |fd: &OwnedFd| format!("{OWN_FDS}/{}", fd.as_raw_fd());
    let devices: Vec<_> =
        inherited.devices.iter().map(|(kind, fd)| (*kind, fd.as_raw_fd())).collect();
    if launch.link.is_none() && devices.iter().any(|(kind, _)| *kind == DeviceKind::Net) {
        return Err(Error::Link);
    }
    Ok(Arguments {
        vm: &launch.vm,
        // A guest on KVM reads the rate by KVM's clock.
        tsc_khz: if accelerator == Accelerator::Tcg { tsc.khz() } else { None },
        accelerator,
        kernel: name(&inherited.kernel),
        initramfs: name(&inherited.initramfs),
        devices,
        tag: arguments::checked_tag(&launch.tag)?,
        link: launch.link,
    }
    .list())
}

fn jail(launch: &QemuLaunch) -> Jail {
    let mut entries: Vec<Entry> =
        DIRECTORIES.map(|path| Entry::LinkOrDirectory(path.into())).into();
    entries.extend(FILES.map(|path| Entry::Host(path.into())));
    entries.push(Entry::OwnFds(OWN_FDS));
    if launch.accel == "kvm" {
        entries.push(Entry::Host("/dev/kvm".into()));
    }
    entries.extend(prefix(&launch.qemu).map(Entry::Host));
    let (root, network) = (Root::Files(entries), Network::None);
    Jail { root, network, capabilities: &[], files: MAX_FILES, memory: None }
}

/// Where a QEMU that is not the distribution's is installed: the directory above
/// its `bin`, or else its own.
fn prefix(qemu: &Path) -> Option<PathBuf> {
    let directory = qemu.parent()?;
    let known = DIRECTORIES.iter().any(|known| qemu.starts_with(known));
    let above =
        directory.parent().filter(|above| directory.ends_with("bin") && above.parent().is_some());
    (!known).then(|| above.unwrap_or(directory).to_owned())
}

fn describe_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

/// `printed` as the end of a message.
fn after_colon(printed: &[u8]) -> String {
    let printed = String::from_utf8_lossy(printed);
    let printed = printed.trim();
    if printed.is_empty() { String::new() } else { format!(": {printed}") }
}

/// Exits with the shim; QEMU's parent-death signal ends it, too.
fn shim_gone() -> ! {
    exit_now(0)
}

#[cfg(test)]
mod tests;
