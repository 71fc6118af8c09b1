//! Runs a process in a container: the child's side, a process of one thread.
//!
//! It joins the container's cgroup and namespaces, and its own child becomes
//! the program, in the order in which libcontainer makes a first process of it.
//!
//! libcontainer's tenant builder is not used: it drops the seccomp profile and
//! does not join the container's user namespace.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libcontainer::config::PersonalityDomain;
use libcontainer::syscall::Syscall;
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::{capabilities, seccomp, tty};
use nix::unistd::{ForkResult, fork};
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxPersonalityDomain, Process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Mode, Uid, fchown};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, chdir, pidfd_open, set_dumpable_behavior, setsid, umask,
};
use rustix::termios::{Winsize, tcsetwinsize};
use rustix::thread::{
    ThreadNameSpaceType, move_into_thread_name_spaces, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::error::ExecError;
use super::schedule;
use crate::cgroup;
use crate::create::report::{Report, Reporter};
use crate::create::workload;
use crate::spec::console_size;

/// Runs the process that the descriptor of the first number describes, and
/// reports on that of the second.
pub fn run(numbers: &[OsString]) -> ExitCode {
    let mut descriptors = numbers.iter().map_while(inherited);
    let (Some(order), Some(report)) = (descriptors.next(), descriptors.next()) else {
        eprintln!("sandbox-agent: exec has no descriptors");
        return ExitCode::FAILURE;
    };
    let console = descriptors.next();
    let reporter = Reporter::inherited(report);
    match exec(order.into(), console, &reporter) {
        Ok(pid) => {
            reporter.send(&Report::Created(pid));
            ExitCode::SUCCESS
        }
        Err(error) => {
            reporter.send(&Report::Refused(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn inherited(number: &OsString) -> Option<OwnedFd> {
    let number = number.to_str()?.parse().ok().filter(|number| *number > 2)?;
    // SAFETY: the agent opened the descriptors for this process alone and names
    // each once; 0 to 2, which the process's streams have, are not among them.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

fn exec(order: File, console: Option<OwnedFd>, reporter: &Reporter) -> Result<i32, ExecError> {
    // Another process must not look into this one, which is not the container's.
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    hidden.map_err(ExecError::call("hide this process"))?;
    // What the kernel gives process 1, and runc its containers.
    umask(Mode::from_raw_mode(0o022));
    let mut json = Vec::new();
    { order }.read_to_end(&mut json).map_err(ExecError::call("read the agent's order"))?;
    let order = serde_json::from_slice(&json);
    let (init, process, linux): (i32, Process, Linux) =
        order.map_err(ExecError::library("read the agent's order"))?;
    let init = Pid::from_raw(init).ok_or(ExecError::Order("the container has no process"))?;
    let syscall = create_syscall();
    let (mut became, becomes) = io::pipe().map_err(ExecError::call("make a pipe"))?;
    enter(&linux, &process, init, syscall.as_ref())?;

    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(ExecError::call("fork"))? {
        ForkResult::Parent { child } => {
            drop(becomes);
            // Its end is closed by execve(2), or by its death.
            let _ = became.read(&mut [0]);
            Ok(child.as_raw())
        }
        ForkResult::Child => {
            let Err(error) = become_program(&linux, &process, console, &*syscall);
            reporter.send(&Report::Refused(error.to_string()));
            std::process::exit(1);
        }
    }
}

/// Joins the cgroup and the namespaces of the container; the pid namespace is
/// that of children only.
fn enter(
    linux: &Linux,
    process: &Process,
    init: Pid,
    syscall: &dyn Syscall,
) -> Result<(), ExecError> {
    let pidfd = pidfd_open(init, PidfdFlags::empty()).map_err(|_| ExecError::Stopped)?;
    let home = cgroup_of(init).map_err(|_| ExecError::Stopped)?;
    let own = linux.cgroups_path().as_deref().and_then(|path| path.strip_prefix("/").ok());
    let own = own.ok_or(ExecError::Order("the container has no cgroup"))?;
    // The number may be another process's by now.
    if !home.starts_with(own) {
        return Err(ExecError::Stopped);
    }
    schedule::first_cpus(process)?;
    join(own)
        .or_else(|error| match Errno::from_io_error(&error) {
            // The container made cgroups below its own, which then takes no
            // processes.
            Some(Errno::BUSY) => join(&home),
            _ => Err(error),
        })
        .map_err(ExecError::call("join the container's cgroup"))?;
    schedule::last_cpus(process)?;
    // What ends the container ends everything in its cgroup, and from here on
    // this process, too.
    if has_ended(&pidfd) {
        return Err(ExecError::Stopped);
    }
    for limit in process.rlimits().iter().flatten() {
        let set = syscall.set_rlimit(limit);
        set.map_err(|error| ExecError::Rlimit { typ: limit.typ(), source: error.into() })?;
    }
    if let Some(score) = process.oom_score_adj() {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(ExecError::call("set oomScoreAdj"))?;
    }
    let namespaces = linux.namespaces().iter().flatten();
    let flags: ThreadNameSpaceType =
        namespaces.into_iter().map(|namespace| flag(namespace.typ())).collect();
    let joined = move_into_thread_name_spaces(pidfd.as_fd(), flags);
    joined.map_err(ExecError::call("join the container's namespaces"))?;
    if flags.contains(ThreadNameSpaceType::USER) {
        // The user that this process was has no number there.
        become_user(0, 0).map_err(ExecError::call("become the container's root"))?;
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

fn flag(namespace: LinuxNamespaceType) -> ThreadNameSpaceType {
    match namespace {
        LinuxNamespaceType::Mount => ThreadNameSpaceType::MOUNT,
        LinuxNamespaceType::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
        LinuxNamespaceType::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
        LinuxNamespaceType::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
        LinuxNamespaceType::User => ThreadNameSpaceType::USER,
        LinuxNamespaceType::Pid => ThreadNameSpaceType::PROCESS_ID,
        LinuxNamespaceType::Network => ThreadNameSpaceType::NETWORK,
        LinuxNamespaceType::Time => ThreadNameSpaceType::TIME,
    }
}

fn become_program(
    linux: &Linux,
    process: &Process,
    console: Option<OwnedFd>,
    syscall: &dyn Syscall,
) -> Result<Infallible, ExecError> {
    let user = process.user();
    setsid().map_err(ExecError::call("make a session"))?;
    schedule::priorities(process, syscall)?;
    let no_new_privileges = process.no_new_privileges() == Some(true);
    if no_new_privileges {
        set_no_new_privs(true).map_err(ExecError::call("set noNewPrivileges"))?;
    }
    if let Some(console) = console {
        tty::setup_console(syscall, console.into_raw_fd(), false)
            .map_err(ExecError::library("set up the terminal"))?;
        set_up_terminal(process).map_err(ExecError::call("set up the terminal"))?;
    }
    if let Some(personality) = linux.personality() {
        let domain = match personality.domain() {
            LinuxPersonalityDomain::PerLinux => PersonalityDomain::Linux,
            LinuxPersonalityDomain::PerLinux32 => PersonalityDomain::Linux32,
        };
        syscall.personality(domain).map_err(ExecError::library("set the personality"))?;
    }
    if let Some(mask) = user.umask().and_then(Mode::from_bits) {
        umask(mask);
    }
    // The user may not be allowed to enter it, or the user alone may be.
    let entered = match chdir(process.cwd()) {
        Err(Errno::ACCESS | Errno::PERM) => false,
        other => other.map(|()| true).map_err(|errno| no_cwd(process, errno))?,
    };
    let groups = user.additional_gids().iter().flatten();
    let groups: Vec<Gid> = groups.map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups).map_err(ExecError::call("set the groups"))?;
    become_user(user.uid(), user.gid()).map_err(ExecError::call("become the user"))?;
    syscall.close_range(0).map_err(ExecError::library("close files"))?;
    let failed = || ExecError::library("set capabilities");
    capabilities::reset_effective(syscall).map_err(failed())?;
    // A filter needs a privilege, or the promise to take on none.
    if !no_new_privileges {
        filter(linux)?;
    }
    if let Some(wanted) = process.capabilities() {
        capabilities::drop_privileges(wanted, syscall).map_err(failed())?;
    }
    if !entered {
        chdir(process.cwd()).map_err(|errno| no_cwd(process, errno))?;
    }
    // A directory outside of the container's root has no path.
    if !std::env::current_dir().is_ok_and(|path| path.is_absolute()) {
        return Err(ExecError::OutsideRoot);
    }
    if no_new_privileges {
        filter(linux)?;
    }
    let program = workload::find(process)?;
    Ok(workload::become_program(&program, process)?)
}

/// Gives the terminal to its user, with the size that it is to have.
fn set_up_terminal(process: &Process) -> io::Result<()> {
    let terminal = io::stdin();
    fchown(&terminal, Some(Uid::from_raw(process.user().uid())), None)?;
    if let Some((columns, lines)) = console_size(process).filter(|size| *size != (0, 0)) {
        let size = Winsize { ws_col: columns, ws_row: lines, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size)?;
    }
    Ok(())
}

/// Keeps what it may do: which of that the process gets is set after this.
fn become_user(uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_keep_capabilities(true)?;
    // This process has one thread.
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_keep_capabilities(false)
}

fn filter(linux: &Linux) -> Result<(), ExecError> {
    let Some(profile) = linux.seccomp() else { return Ok(()) };
    let loaded = seccomp::initialize_seccomp(profile);
    loaded.map(drop).map_err(ExecError::library("set up seccomp"))
}

fn no_cwd(process: &Process, errno: Errno) -> ExecError {
    ExecError::Cwd { cwd: process.cwd().clone(), errno }
}
