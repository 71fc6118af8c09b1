//! Runs a process in a container: the child's side, a process of one thread.
//!
//! It joins the container's cgroup and namespaces, and its own child becomes
//! the program, in the order in which libcontainer makes a first process of it.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libcontainer::config::PersonalityDomain;
use libcontainer::syscall::Syscall;
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::workload::Executor;
use libcontainer::{capabilities, seccomp, tty};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::{set_dumpable, set_keepcaps, set_no_new_privs};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Gid, Uid, chdir, fork, setgroups, setresgid, setresuid, setsid};
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxPersonalityDomain, Process, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fchown;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{Winsize, tcsetwinsize};

use super::schedule;
use crate::cgroup;
use crate::create::child::with_sources;
use crate::create::executable::words;
use crate::create::report::{Report, Reporter};
use crate::create::workload::Workload;
use crate::paths;
use crate::spec::console_size;

/// Runs the process of `bundle` in the container whose first process has the
/// number `init`, and reports to the agent how it went.
pub fn run(bundle: &Path, init: &OsStr) -> ExitCode {
    let reporter = match Reporter::connect(bundle) {
        Ok(reporter) => reporter,
        Err(error) => {
            eprintln!("sandbox-agent: reaching the agent from {bundle:?}: {error}");
            return ExitCode::FAILURE;
        }
    };
    match exec(bundle, init, &reporter) {
        Ok(pid) => {
            reporter.send(&Report::Created(pid));
            ExitCode::SUCCESS
        }
        Err(error) => {
            reporter.send(&Report::Refused(error));
            ExitCode::FAILURE
        }
    }
}

fn exec(bundle: &Path, init: &OsStr, reporter: &Reporter) -> Result<i32, String> {
    let json = fs::read(bundle.join(paths::CONFIG)).map_err(failed("reading the bundle"))?;
    let spec: Spec = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    let linux = spec.linux().as_ref().ok_or("the spec has no linux part")?;
    let process = spec.process().as_ref().ok_or("the spec has no process")?;
    let number = init.to_str().and_then(|text| text.parse().ok()).and_then(Pid::from_raw);
    let number = number.ok_or("the container's first process has no number")?;
    // Nobody in the container may look into this process, which is not of it.
    set_dumpable(false).map_err(failed("hiding this process"))?;
    // What the kernel gives process 1, and runc its containers.
    umask(Mode::from_bits_truncate(0o022));
    let console = match process.terminal() {
        Some(true) => {
            let socket = UnixStream::connect(bundle.join(paths::CONSOLE_SOCKET));
            Some(socket.map_err(failed("reaching the agent for the terminal"))?)
        }
        _ => None,
    };
    let workload = Workload::new(reporter.duplicate().map_err(failed("the report"))?);
    let syscall = create_syscall();
    let (mut became, becomes) = io::pipe().map_err(failed("making a pipe"))?;
    enter(linux, process, number, syscall.as_ref())?;

    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(failed("forking"))? {
        ForkResult::Parent { child } => {
            drop(becomes);
            // Its end is closed by execve(2), or by its death.
            let _ = became.read(&mut [0]);
            Ok(child.as_raw())
        }
        ForkResult::Child => {
            let Err(error) = become_program(&spec, linux, process, console, &workload, &*syscall);
            reporter.send(&Report::Refused(error));
            std::process::exit(1);
        }
    }
}

/// Joins the cgroup and the namespaces of the container; the pid namespace is
/// that of children only.
fn enter(linux: &Linux, process: &Process, init: Pid, syscall: &dyn Syscall) -> Result<(), String> {
    let gone = || "cannot run a process in a container that has stopped".to_owned();
    let pidfd = pidfd_open(init, PidfdFlags::empty()).map_err(|_| gone())?;
    let home = cgroup_of(init).map_err(|_| gone())?;
    let own = linux.cgroups_path().as_deref().and_then(|path| path.strip_prefix("/").ok());
    let own = own.ok_or("the container has no cgroup")?;
    // The number may be another process's by now.
    if !home.starts_with(own) {
        return Err(gone());
    }
    schedule::first_cpus(process)?;
    join(own)
        .or_else(|error| match error.raw_os_error() {
            // It has made cgroups in its own, which then takes no processes.
            Some(libc::EBUSY) => join(&home),
            _ => Err(error),
        })
        .map_err(failed("joining the container's cgroup"))?;
    schedule::last_cpus(process)?;
    // What ends the container ends everything in its cgroup, and from here on
    // this process, too.
    if has_ended(&pidfd) {
        return Err(gone());
    }
    for limit in process.rlimits().iter().flatten() {
        syscall.set_rlimit(limit).map_err(|error| {
            format!("setting the limit {}: {}", limit.typ(), with_sources(&error))
        })?;
    }
    if let Some(score) = process.oom_score_adj() {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(failed("setting oomScoreAdj"))?;
    }
    let namespaces = linux.namespaces().iter().flatten();
    let flags: CloneFlags = namespaces.into_iter().map(|namespace| flag(namespace.typ())).collect();
    setns(&pidfd, flags).map_err(failed("joining the container's namespaces"))?;
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        // Its root; who this process was means nothing there.
        become_user(0, 0).map_err(failed("becoming the container's root"))?;
    }
    Ok(())
}

/// The cgroup of a process, from the root of the hierarchy.
fn cgroup_of(pid: Pid) -> io::Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    path.map(PathBuf::from).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn join(cgroup: &Path) -> io::Result<()> {
    fs::write(Path::new(cgroup::ROOT).join(cgroup).join("cgroup.procs"), "0")
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn flag(namespace: LinuxNamespaceType) -> CloneFlags {
    match namespace {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
    }
}

fn become_program(
    spec: &Spec,
    linux: &Linux,
    process: &Process,
    console: Option<UnixStream>,
    workload: &Workload,
    syscall: &dyn Syscall,
) -> Result<Infallible, String> {
    let user = process.user();
    setsid().map_err(failed("making a session"))?;
    schedule::priorities(process, syscall)?;
    let no_new_privileges = process.no_new_privileges() == Some(true);
    if no_new_privileges {
        set_no_new_privs().map_err(failed("setting noNewPrivileges"))?;
    }
    if let Some(console) = console {
        tty::setup_console(syscall, console.into_raw_fd(), false)
            .map_err(|error| format!("setting up the terminal: {}", with_sources(&error)))?;
        furnish_terminal(process).map_err(failed("setting up the terminal"))?;
    }
    if let Some(personality) = linux.personality() {
        let domain = match personality.domain() {
            LinuxPersonalityDomain::PerLinux => PersonalityDomain::Linux,
            LinuxPersonalityDomain::PerLinux32 => PersonalityDomain::Linux32,
        };
        syscall.personality(domain).map_err(|error| with_sources(&error))?;
    }
    if let Some(mask) = user.umask().and_then(Mode::from_bits) {
        umask(mask);
    }
    // The user may not be allowed to enter it, or the user alone may be.
    let entered = match chdir(process.cwd()) {
        Err(Errno::EACCES | Errno::EPERM) => false,
        other => other.map(|()| true).map_err(|errno| no_cwd(process, errno))?,
    };
    let groups = user.additional_gids().iter().flatten();
    let groups: Vec<Gid> = groups.map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).map_err(failed("setting the groups"))?;
    become_user(user.uid(), user.gid()).map_err(failed("becoming the user"))?;
    syscall.close_range(0).map_err(|error| format!("closing files: {}", with_sources(&error)))?;
    let set = |error| format!("setting capabilities: {}", with_sources(&error));
    capabilities::reset_effective(syscall).map_err(set)?;
    // A filter needs a privilege, or the promise to take on none.
    if !no_new_privileges {
        filter(linux)?;
    }
    if let Some(wanted) = process.capabilities() {
        capabilities::drop_privileges(wanted, syscall).map_err(set)?;
    }
    if !entered {
        chdir(process.cwd()).map_err(|errno| no_cwd(process, errno))?;
    }
    // A folder outside of the container's root has no path.
    if !std::env::current_dir().is_ok_and(|path| path.is_absolute()) {
        return Err("the working directory is outside of the container".to_owned());
    }
    if no_new_privileges {
        filter(linux)?;
    }
    workload.validate(spec).map_err(|error| with_sources(&error))?;
    workload.become_program(spec)
}

/// Gives the terminal to its user, with the size that it is to have.
fn furnish_terminal(process: &Process) -> io::Result<()> {
    let terminal = io::stdin();
    fchown(&terminal, Some(rustix::fs::Uid::from_raw(process.user().uid())), None)?;
    if let Some((columns, lines)) = console_size(process).filter(|size| *size != (0, 0)) {
        let size = Winsize { ws_col: columns, ws_row: lines, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size)?;
    }
    Ok(())
}

/// Keeps what it may do: which of that the process gets is set after this.
fn become_user(uid: u32, gid: u32) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_keepcaps(true)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    set_keepcaps(false)
}

fn filter(linux: &Linux) -> Result<(), String> {
    let Some(profile) = linux.seccomp() else { return Ok(()) };
    let loaded = seccomp::initialize_seccomp(profile);
    loaded.map(drop).map_err(|error| format!("setting up seccomp: {}", with_sources(&error)))
}

fn no_cwd(process: &Process, errno: Errno) -> String {
    format!("chdir to cwd ({:?}) set in config.json failed: {}", process.cwd(), words(errno))
}

pub(super) fn failed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}
