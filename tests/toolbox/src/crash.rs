//! Ends of the guest that no signal from inside brings about.

use nix::sys::ptrace;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// Makes PID 1 jump to address 0. Signals that a process of its own PID
/// namespace sends cannot end it, a fault of its own can. Needs the guest's
/// own PID namespace and CAP_SYS_PTRACE.
pub fn crash_init() -> anyhow::Result<()> {
    let init = Pid::from_raw(1);
    ptrace::attach(init)?;
    waitpid(init, None)?;
    let mut registers = ptrace::getregs(init)?;
    registers.rip = 0;
    // Else the kernel would take an interrupted system call up again.
    registers.orig_rax = u64::MAX;
    ptrace::setregs(init, registers)?;
    ptrace::detach(init, None)?;
    Ok(())
}

/// reboot(2). In a PID namespace of its own, that ends the namespace's init.
pub fn reboot_machine() -> anyhow::Result<()> {
    match reboot(RebootMode::RB_AUTOBOOT)? {}
}
