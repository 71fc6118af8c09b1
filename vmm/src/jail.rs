//! The jail of each process, as an ordered list of steps.
//!
//! A process enters it with one thread, after it has opened all that it needs
//! of the host's files.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{chdir, pivot_root};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::control;

/// Mount point on which the root of [`Root::Files`] is assembled: a directory
/// that every host has and that nothing is bound from.
const STAGE: &str = "/proc";
const OWN_FDS: &str = "/proc/self/fd";

/// A step of the jail failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot enter the jail: {step}{}", what.as_deref().map(|p| format!(" {}", p.display())).unwrap_or_default())]
pub struct JailError {
    step: &'static str,
    what: Option<PathBuf>,
    source: io::Error,
}

/// The root file system of a process.
#[derive(Clone, Debug)]
pub enum Root {
    /// A directory, with what the host mounts in it later.
    Share(PathBuf),
    /// A directory without later mounts, read-only: nerdctl copies files to the
    /// root of a task's pid, and a copy that the container never sees must fail.
    Directory(PathBuf),
    /// A read-only tree of these entries.
    Files(Vec<Entry>),
}

/// An entry of [`Root::Files`].
#[derive(Clone, Debug)]
pub enum Entry {
    /// A file, device or directory of the host at the same path, read-only
    /// unless it is a device. Skipped if the host has none.
    Host(PathBuf),
    /// A symbolic link or directory of the host at the same path. Skipped if
    /// the host has none.
    LinkOrDirectory(PathBuf),
    /// `/proc/self/fd` of the process, at this path.
    OwnFds(&'static str),
}

/// The network namespace of a process.
#[derive(Clone, Debug)]
pub enum Network {
    /// A new one without interfaces.
    None,
    Namespace(Arc<OwnedFd>),
}

/// How a process is confined.
#[derive(Clone, Debug)]
pub struct Jail {
    pub root: Root,
    pub network: Network,
    /// The capabilities it keeps.
    pub capabilities: &'static [Capability],
    /// RLIMIT_NOFILE: a leak of descriptors fails here and not on the host.
    pub files: u64,
    /// RLIMIT_DATA, which does not count guest memory: it bounds what a guest
    /// makes the process allocate. `None` for a process that allocates guest
    /// memory itself.
    pub memory: Option<u64>,
}

impl Jail {
    /// Confines the calling process permanently.
    pub fn enter(&self) -> Result<(), JailError> {
        failed("close inherited descriptors", control::close_strangers())?;
        self.limit()?;
        self.network.enter()?;
        leave_namespaces()?;
        self.root.enter()?;
        self.drop_capabilities()?;
        step("refuse new privileges", prctl::set_no_new_privs())?;
        // Without capabilities, uid 0 may trace every process of uid 0 that is
        // dumpable and has no more capabilities: other pods' processes.
        step("forbid tracing", prctl::set_dumpable(false))?;
        // After the capabilities: changing credentials clears it.
        step("set the parent-death signal", prctl::set_pdeathsig(Signal::SIGKILL))
    }

    fn limit(&self) -> Result<(), JailError> {
        step("forbid core dumps", setrlimit(Resource::RLIMIT_CORE, 0, 0))?;
        let files = most_files(self.files);
        step("limit open files", setrlimit(Resource::RLIMIT_NOFILE, files, files))?;
        match self.memory {
            Some(bytes) => step("limit memory", setrlimit(Resource::RLIMIT_DATA, bytes, bytes)),
            None => Ok(()),
        }
    }

    fn drop_capabilities(&self) -> Result<(), JailError> {
        let keep: CapsHashSet = self.capabilities.iter().copied().collect();
        for capability in caps::all().difference(&keep) {
            match caps::drop(None, CapSet::Bounding, *capability) {
                // Newer than the kernel.
                Err(_) if !caps::runtime::thread_all_supported().contains(capability) => {}
                result => capability_step(result)?,
            }
        }
        keep_capabilities(self.capabilities)
    }
}

/// Drops all other capabilities of the calling thread and of threads that it
/// starts.
pub fn keep_capabilities(keep: &[Capability]) -> Result<(), JailError> {
    let keep: CapsHashSet = keep.iter().copied().collect();
    capability_step(caps::set(None, CapSet::Inheritable, &CapsHashSet::new()))?;
    capability_step(caps::set(None, CapSet::Effective, &keep))?;
    capability_step(caps::set(None, CapSet::Permitted, &keep))
}

impl Network {
    fn enter(&self) -> Result<(), JailError> {
        match self {
            Network::None => {
                step("unshare the network namespace", unshare(CloneFlags::CLONE_NEWNET))
            }
            Network::Namespace(namespace) => step(
                "enter the pod's network namespace",
                setns(namespace, CloneFlags::CLONE_NEWNET),
            ),
        }
    }
}

/// Enters new mount, IPC and UTS namespaces; mounts do not propagate to the
/// host.
fn leave_namespaces() -> Result<(), JailError> {
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    step("unshare the mount, IPC and UTS namespaces", unshare(flags))?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    at("make a slave mount of", "/", mount_flags("/", flags))
}

impl Root {
    fn enter(&self) -> Result<(), JailError> {
        match self {
            Root::Share(path) => {
                pivot(path)?;
                // CAP_MKNOD makes device nodes here: none is to be opened.
                let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
                let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags;
                at("forbid devices on", "/", mount_flags("/", remount))
            }
            Root::Directory(path) => {
                at("bind", path, bind(path, path, true))?;
                at("make a private mount of", path, mount_flags(path, MsFlags::MS_PRIVATE))?;
                pivot(path)
            }
            Root::Files(entries) => {
                stage(entries, own_fds()?)?;
                pivot(Path::new(STAGE))?;
                let read_only = MsFlags::MS_REMOUNT
                    | MsFlags::MS_RDONLY
                    | MsFlags::MS_NOSUID
                    | MsFlags::MS_NODEV;
                at("make read-only", "/", mount_flags("/", read_only))
            }
        }
    }
}

/// Makes `path`, a mount point, the root and unmounts the old root.
fn pivot(path: &Path) -> Result<(), JailError> {
    at("enter", path, chdir(path))?;
    at("change root to", path, pivot_root(".", "."))?;
    at("unmount the host's", "/", umount2(".", MntFlags::MNT_DETACH))?;
    at("enter", "/", chdir("/"))
}

fn stage(entries: &[Entry], fds: OwnedFd) -> Result<(), JailError> {
    let stage = Path::new(STAGE);
    let flags = MsFlags::MS_NOSUID;
    let options = Some("mode=0755,size=64k");
    let mounted = mount(Some("none"), stage, Some("tmpfs"), flags, options);
    at("mount a file system on", stage, mounted)?;
    let mut fds = Some(fds);
    for entry in entries {
        match entry {
            Entry::Host(path) => add_host(stage, path)?,
            Entry::LinkOrDirectory(path) => add_link(stage, path)?,
            Entry::OwnFds(path) => {
                let target = beneath(stage, Path::new(path));
                at("create", &target, fs::create_dir_all(&target))?;
                if let Some(fds) = fds.take() {
                    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                    let moved = move_mount(&fds, "", CWD, &target, flags);
                    at("mount the process's descriptors on", &target, moved)?;
                }
            }
        }
    }
    Ok(())
}

fn add_host(stage: &Path, path: &Path) -> Result<(), JailError> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let target = beneath(stage, path);
    if metadata.is_dir() {
        at("create", &target, fs::create_dir_all(&target))?;
    } else {
        let directory = target.parent().unwrap_or(stage);
        at("create", directory, fs::create_dir_all(directory))?;
        at("create", &target, fs::File::create(&target).map(drop))?;
    }
    let read_only = metadata.is_dir() || metadata.is_file();
    at("bind", path, bind(path, &target, read_only))
}

fn add_link(stage: &Path, path: &Path) -> Result<(), JailError> {
    match fs::read_link(path) {
        Ok(link) => {
            let target = beneath(stage, path);
            at("create", &target, std::os::unix::fs::symlink(link, &target))
        }
        Err(_) => add_host(stage, path),
    }
}

fn beneath(stage: &Path, path: &Path) -> PathBuf {
    stage.join(path.strip_prefix("/").unwrap_or(path))
}

fn bind(from: &Path, to: &Path, read_only: bool) -> nix::Result<()> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount_flags(to, flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    }
    Ok(())
}

fn mount_flags<P: AsRef<Path> + ?Sized>(path: &P, flags: MsFlags) -> nix::Result<()> {
    let none = None::<&str>;
    mount(none, path.as_ref(), none, flags, none)
}

/// A detached mount of `/proc/self/fd`: no path leads from it to the rest of
/// `/proc`.
pub fn own_fds() -> Result<OwnedFd, JailError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    at("clone the mount of", OWN_FDS, open_tree(CWD, OWN_FDS, flags))
}

/// Raises RLIMIT_NOFILE to `wanted`, or to the hard limit; returns the limit.
pub fn most_files(wanted: u64) -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((wanted, wanted));
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted);
    if raised.is_ok() { wanted } else { hard.min(wanted) }
}

fn failed(step: &'static str, result: io::Result<()>) -> Result<(), JailError> {
    result.map_err(|source| JailError { step, what: None, source })
}

fn step(step: &'static str, result: Result<(), Errno>) -> Result<(), JailError> {
    failed(step, result.map_err(io::Error::from))
}

fn capability_step(result: Result<(), caps::errors::CapsError>) -> Result<(), JailError> {
    failed("drop capabilities", result.map_err(io::Error::other))
}

fn at<T>(
    step: &'static str,
    what: impl AsRef<Path>,
    result: Result<T, impl Into<io::Error>>,
) -> Result<T, JailError> {
    let what = Some(what.as_ref().to_owned());
    result.map_err(|error| JailError { step, what, source: error.into() })
}
