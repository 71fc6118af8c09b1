//! Which CPU and disk time a process is to get, where it asks for its own.

use libcontainer::process::cpu_affinity::to_cpuset;
use libcontainer::syscall::Syscall;
use nix::errno::Errno;
use oci_spec::runtime::{
    IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process, Scheduler,
};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::error::ExecError;

/// What this process runs on before it joins the container's cgroup.
pub fn first_cpus(process: &Process) -> Result<(), ExecError> {
    let affinity = process.exec_cpu_affinity().as_ref();
    cpus(affinity.and_then(|affinity| affinity.initial().as_deref()))
}

/// What it runs on in there.
pub fn last_cpus(process: &Process) -> Result<(), ExecError> {
    let affinity = process.exec_cpu_affinity().as_ref();
    cpus(affinity.and_then(|affinity| affinity.cpu_affinity_final().as_deref()))
}

fn cpus(list: Option<&str>) -> Result<(), ExecError> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(()) };
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        // A type of libcontainer's version of nix.
        let wanted = to_cpuset(list)?;
        let mut set = CpuSet::new();
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| wanted.is_set(*cpu).unwrap_or(false)) {
            set.set(cpu);
        }
        Ok(sched_setaffinity(None, &set)?)
    };
    run().map_err(|source| ExecError::Cpus { list: list.to_owned(), source })
}

/// Sets the priorities of this process.
pub fn priorities(process: &Process, syscall: &dyn Syscall) -> Result<(), ExecError> {
    if let Some(wanted) = process.io_priority() {
        // ioprio_set(2)
        let class = match wanted.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        syscall
            .set_io_priority(class, wanted.priority())
            .map_err(ExecError::library("set ioPriority"))?;
    }
    match process.scheduler() {
        Some(wanted) => set_scheduler(wanted).map_err(ExecError::call("set the scheduler")),
        None => Ok(()),
    }
}

fn set_scheduler(wanted: &Scheduler) -> Result<(), Errno> {
    let flags = wanted.flags().iter().flatten();
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy(*wanted.policy()),
        sched_flags: flags.fold(0, |all, flag| all | bit(*flag)),
        sched_nice: wanted.nice().unwrap_or(0),
        sched_priority: wanted.priority().unwrap_or(0).cast_unsigned(),
        sched_runtime: wanted.runtime().unwrap_or(0),
        sched_deadline: wanted.deadline().unwrap_or(0),
        sched_period: wanted.period().unwrap_or(0),
    };
    // SAFETY: the kernel reads `size` bytes of a structure that lives on. The C
    // library of the guest has no function for the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    Errno::result(done).map(drop)
}

/// Numbers of `linux/sched.h`.
fn policy(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

fn bit(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}
