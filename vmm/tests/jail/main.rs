//! What the processes of a sandbox can see and do once they serve. Takes root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../kvm/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::ptrace;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use process::{Process, file, vhost_socket};
use sandbox_vm_spec::VmSpec;
use sandbox_vm_spec::devices::DeviceKind;
use sandbox_vm_spec::launch::{DeviceSocket, FsLaunch, IoLaunch, Launch, QemuLaunch, Report};

const FS_CAPABILITIES: [Capability; 8] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_MKNOD,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// An `io` process, its directory of sockets, and the engine's connections.
fn io(extra: Option<OwnedFd>) -> (Process, tempfile::TempDir, Vec<OwnedFd>) {
    let ((rng, rng_engine), (vsock, vsock_engine)) = (vhost_socket(), vhost_socket());
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
        guest_ports: vec![1024],
        network: None,
        disks: None,
    });
    let mut fds: Vec<OwnedFd> = vec![rng.into(), vsock.into(), listener.into()];
    fds.extend(extra);
    let mut io = Process::start("io", fds, &launch);
    assert_eq!(io.news(), Report::Ready);
    (io, sockets, vec![rng_engine, vsock_engine])
}

/// A pod's share: a mount point with shared propagation.
struct Share(tempfile::TempDir);

impl Share {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (path, none) = (directory.path(), None::<&str>);
        mount(Some(path), path, none, MsFlags::MS_BIND, none).unwrap();
        mount(none, path, none, MsFlags::MS_PRIVATE, none).unwrap();
        mount(none, path, none, MsFlags::MS_SHARED, none).unwrap();
        Self(directory)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

fn fs_process(share: &Path, extra: Option<OwnedFd>) -> (Process, OwnedFd) {
    let (listener, engine) = vhost_socket();
    let launch = Launch::Fs(FsLaunch {
        sandbox: String::new(),
        devices: vec![DeviceSocket { kind: DeviceKind::Fs, socket: 10 }],
        tag: "share".into(),
        config: true,
        share: share.into(),
    });
    let fds = [listener.into()].into_iter().chain(extra).collect();
    let mut fs = Process::start("fs", fds, &launch);
    assert_eq!(fs.news(), Report::Ready);
    (fs, engine)
}

fn of_process(process: &Process, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{name}", process.id()))
}

fn status(process: &Process, field: &str) -> String {
    let status = fs::read_to_string(of_process(process, "status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What holds for every process.
fn confined(process: &Process, capabilities: u64) {
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let held = u64::from_str_radix(&status(process, set), 16).unwrap();
        assert_eq!(held, capabilities, "{set} {held:#x}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(process, set), "0000000000000000");
    }
    assert_eq!(status(process, "NoNewPrivs"), "1");
    assert_eq!(fs::read(of_process(process, "environ")).unwrap(), b"");
    for namespace in ["ns/mnt", "ns/net", "ns/ipc", "ns/uts"] {
        let ours = fs::read_link(Path::new("/proc/self").join(namespace)).unwrap();
        assert_ne!(fs::read_link(of_process(process, namespace)).unwrap(), ours, "{namespace}");
    }
    let mounts = fs::read_to_string(of_process(process, "mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    let limits = fs::read_to_string(of_process(process, "limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().rev().take(3).collect::<Vec<_>>(), ["bytes", "0", "0"]);
}

#[test]
fn io_sees_its_sockets_alone() {
    let (io, sockets, _engine) = io(None);
    confined(&io, 0);
    assert_eq!(names(&of_process(&io, "root")), names(sockets.path()));
    assert!(io.hang_up());
}

#[test]
fn io_ends_with_the_engine() {
    let (io, _sockets, engine) = io(None);
    drop(engine);
    assert!(io.ended());
}

fn open_files(process: &Process) -> Vec<PathBuf> {
    let open = fs::read_dir(of_process(process, "fd")).unwrap();
    open.map(|entry| fs::read_link(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn what_was_inherited_by_chance_is_closed() {
    let stranger = || {
        let file = file(b"a secret");
        (fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap(), file)
    };
    let (path, file) = stranger();
    let (io, _sockets, _engine) = io(Some(file));
    assert!(!open_files(&io).contains(&path));
    let ((path, file), share) = (stranger(), Share::new());
    let (fs, _engine) = fs_process(share.0.path(), Some(file));
    assert!(!open_files(&fs).contains(&path));
}

/// Runs `act` in a thread that has no more capabilities than a process of a
/// pod, and the same user.
fn as_a_process<T: Send + 'static>(
    capabilities: &[Capability],
    act: impl FnOnce() -> T + Send + 'static,
) -> T {
    let keep = capabilities.iter().copied().collect();
    let run = move || {
        caps::set(None, CapSet::Effective, &keep).unwrap();
        caps::set(None, CapSet::Permitted, &keep).unwrap();
        act()
    };
    thread::spawn(run).join().unwrap()
}

/// All processes have the user 0: what separates pods is that none is dumpable.
#[test]
fn a_process_cannot_trace_or_read_that_of_another_pod() {
    let share = Share::new();
    let (io, _sockets, _engine) = io(None);
    let (fs, _fs_engine) = fs_process(share.0.path(), None);
    for (process, capabilities) in [(&io, &[][..]), (&fs, &FS_CAPABILITIES[..])] {
        let maps = fs::read_to_string(of_process(process, "maps")).unwrap();
        let base = usize::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
        let pid = Pid::from_raw(process.id() as i32);
        let read = as_a_process(capabilities, move || {
            let (mut bytes, remote) = ([0; 8], [RemoteIoVec { base, len: 8 }]);
            process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &remote)
        });
        assert_eq!(read, Err(Errno::EPERM));
        let seize = move || ptrace::seize(pid, ptrace::Options::empty());
        assert_eq!(as_a_process(capabilities, seize), Err(Errno::EPERM));
        let maps = of_process(process, "maps");
        let listed = as_a_process(capabilities, move || fs::read_to_string(maps));
        assert_eq!(listed.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}

/// `fs` has CAP_MKNOD, for the guest's sake: its device nodes lead nowhere.
#[test]
fn fs_cannot_open_a_device_of_the_host() {
    let share = Share::new();
    let rootfs = share.0.path().join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    // As the runtime mounts everything below a share.
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("none"), &rootfs, Some("tmpfs"), flags, None::<&str>).unwrap();
    let (fs_process, _engine) = fs_process(share.0.path(), None);
    let namespace = fs::File::open(of_process(&fs_process, "ns/mnt")).unwrap();
    let open_devices = move || {
        unshare(CloneFlags::CLONE_FS).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNS).unwrap();
        as_a_process(&FS_CAPABILITIES, || {
            ["/loop", "/rootfs/loop"].map(|path| {
                mknod(path, SFlag::S_IFBLK, Mode::S_IRUSR, makedev(7, 0)).unwrap();
                fs::File::open(path).map(drop).map_err(|error| error.kind())
            })
        })
    };
    let opened = thread::spawn(open_devices).join().unwrap();
    assert_eq!(opened, [Err(io::ErrorKind::PermissionDenied); 2]);
    umount2(&rootfs, MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn fs_sees_the_share_and_what_is_mounted_in_it_later() {
    let share = Share::new();
    fs::create_dir(share.0.path().join("rootfs")).unwrap();
    let (fs_process, _engine) = fs_process(share.0.path(), None);
    confined(&fs_process, FS_CAPABILITIES.iter().fold(0, |bits, one| bits | one.bitmask()));
    let root = of_process(&fs_process, "root");
    assert_eq!(names(&root), BTreeSet::from(["rootfs".to_owned()]));
    let rootfs = share.0.path().join("rootfs");
    mount(Some("none"), &rootfs, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::write(rootfs.join("later"), b"").unwrap();
    assert_eq!(names(&root.join("rootfs")), BTreeSet::from(["later".to_owned()]));
    umount2(&rootfs, MntFlags::MNT_DETACH).unwrap();
    assert_eq!(names(&root.join("rootfs")), BTreeSet::new());
    assert!(fs_process.hang_up());
}

#[test]
fn a_launch_message_for_another_process_is_refused() {
    let launch = Launch::Fs(FsLaunch {
        sandbox: String::new(),
        devices: vec![DeviceSocket { kind: DeviceKind::Fs, socket: 10 }],
        tag: "share".into(),
        config: true,
        share: "/nowhere".into(),
    });
    refused("io", vec![], &launch, "launch message of another process");
}

#[test]
fn what_is_wrong_with_a_launch_message_is_named() {
    let fs = |socket, tag: &str, share: &str| {
        let devices = vec![DeviceSocket { kind: DeviceKind::Fs, socket }];
        Launch::Fs(FsLaunch {
            sandbox: String::new(),
            devices,
            tag: tag.into(),
            config: true,
            share: share.into(),
        })
    };
    let socket = || vhost_socket().0.into();
    let not_passed = "file descriptor 99, the vhost-user listener of the fs device";
    refused("fs", vec![], &fs(99, "share", "/tmp"), not_passed);
    refused("fs", vec![socket()], &fs(10, "share", "/nowhere"), "enter /nowhere");
    let share = Share::new();
    let share = share.0.path().to_str().unwrap();
    refused("fs", vec![socket()], &fs(10, "", share), "the tag \"\" of the share");
}

#[test]
fn what_is_wrong_with_qemu_is_named() {
    let launch = |qemu: &str, accel: &str, vcpus| {
        Launch::Qemu(QemuLaunch {
            sandbox: String::new(),
            vm: VmSpec { vcpus, memory_mib: 128, cmdline: String::new() },
            qemu: qemu.into(),
            accel: accel.into(),
            kernel: 10,
            initramfs: 11,
            console: 12,
            console_max: 1 << 20,
            devices: vec![],
            tag: "share".into(),
            link: None,
        })
    };
    let fds = || vec![file(b"no kernel"), file(b""), file(b"")];
    refused("qemu", fds(), &launch("/nowhere/qemu", "tcg", 1), "cannot execute /nowhere/qemu");
    refused("qemu", fds(), &launch("qemu", "tcg", 1), "path qemu of QEMU: not absolute");
    refused("qemu", fds(), &launch("/bin/true", "hvf", 1), "invalid accelerator \"hvf\"");
    refused("qemu", fds(), &launch("/bin/true", "tcg", 17), "17 vCPUs");
    refused("qemu", fds(), &launch("/bin/false", "tcg", 1), "QEMU ended with status 1");
}

fn refused(name: &str, fds: Vec<OwnedFd>, launch: &Launch, words: &str) {
    let mut process = Process::start(name, fds, launch);
    let failure = loop {
        match process.news() {
            Report::Ready => {}
            report => break report,
        }
    };
    let Report::Failed { error } = failure else { panic!("{failure:?}") };
    assert!(error.contains(words), "{words:?} is not in {error:?}");
    assert!(!process.ended());
}

#[test]
fn started_by_hand_it_says_so() {
    for name in ["io", "fs", "qemu", "kvm"] {
        let output = Command::new(env!("CARGO_BIN_EXE_sandbox-vmm"))
            .arg(name)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(said.contains("started by the shim, not by hand"), "{said}");
    }
}
