//! Starts processes of `sandbox-vmm` as the shim does.

#![allow(dead_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use sandbox_vm_spec::VmSpec;
use sandbox_vm_spec::devices::DeviceKind;
use sandbox_vm_spec::launch::{DeviceSocket, IoLaunch, KvmLaunch, Launch, Report};

/// Longest wait for a report. The engine itself gives up on a silent backend
/// after ten seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A process and the shim's end of its control socket.
pub struct Process {
    child: Child,
    control: BufReader<UnixStream>,
}

impl Process {
    /// Starts a process with `fds` as its descriptors 10, 11 and so on.
    pub fn start(name: &str, fds: Vec<OwnedFd>, launch: &Launch) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut mappings = vec![FdMapping { parent_fd: theirs.into(), child_fd: 3 }];
        for (child_fd, parent_fd) in (10..).zip(fds) {
            mappings.push(FdMapping { parent_fd, child_fd });
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-vmm"));
        command.arg(name).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.fd_mappings(mappings).unwrap().spawn().unwrap();
        // The descriptors that were mapped are the child's alone.
        drop(command);
        let mut line = serde_json::to_vec(launch).unwrap();
        line.push(b'\n');
        (&ours).write_all(&line).unwrap();
        ours.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { child, control: BufReader::new(ours) }
    }

    /// The next report, `None` when the process has closed its end.
    pub fn report(&mut self) -> Option<Report> {
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// The next report that is no stage.
    pub fn news(&mut self) -> Report {
        loop {
            match self.report() {
                Some(Report::Stage { .. }) => {}
                Some(report) => return report,
                None => panic!("the process has ended without a word"),
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Closes the control socket, as the end of the shim does, and waits for
    /// the process; returns whether it succeeded.
    pub fn hang_up(mut self) -> bool {
        drop(self.control);
        self.child.wait().unwrap().success()
    }

    /// Waits for the process to end by itself; returns whether it succeeded.
    pub fn ended(mut self) -> bool {
        self.child.wait().unwrap().success()
    }
}

/// A vhost-user socket: the listener for the backend, the connection for the
/// engine.
pub fn vhost_socket() -> (UnixListener, OwnedFd) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vhost.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let connection = UnixStream::connect(&path).unwrap();
    (listener, connection.into())
}

/// An `io` process; returns the engine's connection to its rng device, too.
pub fn start_io() -> (Process, OwnedFd) {
    let (rng, connection) = vhost_socket();
    let (vsock, _) = vhost_socket();
    let sockets = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(sockets.path().join("vsock.sock")).unwrap();
    let launch = Launch::Io(IoLaunch {
        sandbox: String::new(),
        devices: vec![
            DeviceSocket { kind: DeviceKind::Rng, socket: 10 },
            DeviceSocket { kind: DeviceKind::Vsock, socket: 11 },
        ],
        cid: 3,
        sockets: sockets.path().into(),
        listener: 12,
        guest_ports: vec![],
        network: None,
        disks: None,
    });
    let mut io = Process::start("io", vec![rng.into(), vsock.into(), listener.into()], &launch);
    assert_eq!(io.news(), Report::Ready);
    (io, connection)
}

/// A `kvm` process and its console log.
pub struct Engine {
    pub process: Process,
    console: File,
}

impl Engine {
    /// Boots `kernel` with an rng device for each of `backends`; `None`, with
    /// the reason printed, where there is no KVM at all.
    pub fn boot(kernel: &[u8], vcpus: u8, backends: Vec<OwnedFd>) -> Option<Self> {
        Self::boot_with(kernel, vcpus, backends, None)
    }

    /// With a descriptor that the launch message does not name.
    pub fn boot_with(
        kernel: &[u8],
        vcpus: u8,
        backends: Vec<OwnedFd>,
        stranger: Option<OwnedFd>,
    ) -> Option<Self> {
        let kvm = match File::options().read(true).write(true).open("/dev/kvm") {
            Ok(kvm) => kvm,
            Err(error) => {
                eprintln!("skipped: /dev/kvm: {error}");
                return None;
            }
        };
        let device = |(socket, _): (i32, &OwnedFd)| DeviceSocket { kind: DeviceKind::Rng, socket };
        let launch = Launch::Kvm(KvmLaunch {
            sandbox: String::new(),
            vm: VmSpec { vcpus, memory_mib: 128, cmdline: String::new() },
            kvm: 10,
            kernel: 11,
            initramfs: 12,
            console: 13,
            console_max: 1 << 20,
            devices: (14..).zip(&backends).map(device).collect(),
        });
        let console = tempfile::tempfile().unwrap();
        let log = console.as_fd().try_clone_to_owned().unwrap();
        let mut fds = vec![kvm.into(), file(kernel), file(b""), log];
        fds.extend(backends.into_iter().chain(stranger));
        Some(Self { process: Process::start("kvm", fds, &launch), console })
    }

    /// What the guest has printed so far.
    pub fn console(&mut self) -> String {
        let mut text = String::new();
        self.console.rewind().unwrap();
        self.console.read_to_string(&mut text).unwrap();
        text
    }
}

/// A file that holds `bytes`.
pub fn file(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.into()
}
