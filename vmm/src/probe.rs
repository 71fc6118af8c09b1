//! Tests whether `/dev/kvm` can run a guest. On some hosts it exists, emulates
//! ring 0 instruction by instruction, and stops at instructions that every
//! kernel uses.

mod guest;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd};
use sandbox_vm_spec::failure::chain;
use serde::Serialize;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::kvm::{cpuid, layout, memory, registers};

/// How long the guest may take. It needs a millisecond; a host that takes
/// this long is not one to run sandboxes on.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A KVM that takes longer for an instruction emulates it. CPUs take less than
/// 1 ns, nested emulation by QEMU some 20 ns, an emulated ring 0 about 270 ns.
const SLOWEST: Duration = Duration::from_nanos(100);
/// Where the guest's code is.
const CODE: u64 = 0x1_0000;
/// What the guest needs, in MiB.
const MEMORY: u64 = 1;

/// The verdict was not printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot print the verdict")]
    Print(#[source] io::Error),
}

/// Why `/dev/kvm` is not usable, and what to do.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(
        "{0} does not exist: this machine has no hardware virtualization, or its module is not loaded (modprobe kvm_intel or kvm_amd; in a virtual machine, let its host enable nested virtualization)"
    )]
    Absent(String),
    #[error("no permission to open {0}: run as root, or as a member of the group kvm")]
    Forbidden(String),
    #[error("{0} cannot be opened; in a container, pass it in (--device /dev/kvm)")]
    Open(String, #[source] io::Error),
    #[error(
        "{path} has version {found} of the KVM interface; version {KVM_API_VERSION} is required"
    )]
    Version { path: String, found: i32 },
    #[error("KVM lacks {0:?}; install a newer host kernel")]
    Lacks(Cap),
    #[error(
        "KVM is busy: another hypervisor, such as VirtualBox or VMware, uses the CPU's virtualization; stop it"
    )]
    Busy,
    #[error("{0} failed")]
    Ioctl(&'static str, #[source] kvm_ioctls::Error),
    #[error(transparent)]
    Memory(#[from] memory::Error),
    #[error(transparent)]
    Registers(#[from] registers::Error),
    #[error(transparent)]
    Cpuid(#[from] cpuid::Error),
    #[error("KVM stops at {step}: {why}; it emulates the kernel mode of its guests{speed}")]
    Stops { step: &'static str, why: String, speed: String },
    #[error("KVM takes {0} ns for an instruction: it emulates the kernel mode of its guests")]
    Slow(u128),
    #[error("a guest of a few hundred bytes has not ended within {} seconds", TIMEOUT.as_secs())]
    Hangs,
    #[error("the probe ended without a verdict")]
    Crashed,
}

#[derive(Debug, Serialize)]
struct Verdict {
    usable: bool,
    reason: String,
}

/// Prints the verdict as one line of JSON.
pub fn run() -> Result<(), Error> {
    let verdict = judge("/dev/kvm");
    let line = serde_json::to_string(&verdict).map_err(|e| Error::Print(e.into()))?;
    writeln!(io::stdout(), "{line}").map_err(Error::Print)
}

/// Probes on another thread, so that a KVM that hangs times out.
fn judge(path: &'static str) -> Verdict {
    let (sender, result) = mpsc::channel();
    let probe = move || {
        // The other side waits, or has given its answer.
        let _ = sender.send(probe(path));
    };
    let result = match thread::Builder::new().name("probe".into()).spawn(probe) {
        Ok(_) => result.recv_timeout(TIMEOUT),
        Err(_) => Err(mpsc::RecvTimeoutError::Disconnected),
    };
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Unusable::Hangs),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Unusable::Crashed),
    };
    match outcome {
        Ok(instruction) => {
            let reason = format!("a guest ran, {} ns an instruction", instruction.as_nanos());
            Verdict { usable: true, reason }
        }
        Err(error) => Verdict { usable: false, reason: chain(&error) },
    }
}

/// Runs the guest; returns the time of an instruction.
fn probe(path: &str) -> Result<Duration, Unusable> {
    let kvm = open(path)?;
    check(&kvm, path)?;
    let vm = kvm.create_vm().map_err(failed("KVM_CREATE_VM"))?;
    vm.set_identity_map_address(layout::IDENTITY_MAP)
        .map_err(failed("KVM_SET_IDENTITY_MAP_ADDR"))?;
    vm.set_tss_address(layout::TSS).map_err(failed("KVM_SET_TSS_ADDR"))?;
    let memory = guest_memory()?;
    memory::register(&vm, &memory)?;
    let mut vcpu = vm.create_vcpu(0).map_err(failed("KVM_CREATE_VCPU"))?;
    let cpuid = cpuid::Template::new(&kvm, 1)?.of(0)?;
    vcpu.set_cpuid2(&cpuid).map_err(failed("KVM_SET_CPUID2"))?;
    registers::boot(&vcpu, CODE)?;
    drive(&mut vcpu)
}

fn open(path: &str) -> Result<Kvm, Unusable> {
    let file = OpenOptions::new().read(true).write(true).open(Path::new(path));
    let file: File = file.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Absent(path.into()),
        io::ErrorKind::PermissionDenied => Unusable::Forbidden(path.into()),
        _ => Unusable::Open(path.into(), error),
    })?;
    // SAFETY: taken over from `file`, which owns it.
    Ok(unsafe { Kvm::from_raw_fd(file.into_raw_fd()) })
}

/// What the kvm engine cannot do without.
fn check(kvm: &Kvm, path: &str) -> Result<(), Unusable> {
    let found = kvm.get_api_version();
    if found != KVM_API_VERSION as i32 {
        return Err(Unusable::Version { path: path.into(), found });
    }
    let needed = [
        Cap::UserMemory,
        Cap::ExtCpuid,
        Cap::SetTssAddr,
        Cap::Irqchip,
        Cap::Pit2,
        Cap::Irqfd,
        Cap::Ioeventfd,
        Cap::ImmediateExit,
    ];
    match needed.into_iter().find(|cap| !kvm.check_extension(*cap)) {
        Some(cap) => Err(Unusable::Lacks(cap)),
        None => Ok(()),
    }
}

fn failed(ioctl: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Unusable {
    move |error| match error.errno() {
        libc::EBUSY => Unusable::Busy,
        _ => Unusable::Ioctl(ioctl, error),
    }
}

fn guest_memory() -> Result<GuestMemoryMmap, Unusable> {
    let memory = memory::make(MEMORY)?;
    registers::write_tables(&memory).map_err(registers::Error::from)?;
    memory.write_slice(guest::code(), GuestAddress(CODE)).map_err(registers::Error::from)?;
    Ok(memory)
}

/// Runs the guest to its end, timing the laps of its loop.
fn drive(vcpu: &mut VcpuFd) -> Result<Duration, Unusable> {
    let mut best: Option<Duration> = None;
    let mut began: Option<Instant> = None;
    loop {
        let why = match vcpu.run() {
            Ok(VcpuExit::IoOut(guest::LAP_PORT, _)) => {
                match began.take() {
                    Some(began) => best = fastest(best, began.elapsed()),
                    None => began = Some(Instant::now()),
                }
                continue;
            }
            Ok(VcpuExit::IoOut(guest::DONE_PORT, _)) => break,
            Ok(exit) => format!("{exit:?}"),
            Err(error) if error.errno() == libc::EINTR => continue,
            Err(error) => error.to_string(),
        };
        return Err(stops(vcpu, why, best));
    }
    match best {
        Some(instruction) if instruction <= SLOWEST => Ok(instruction),
        Some(instruction) => Err(Unusable::Slow(instruction.as_nanos())),
        None => Err(Unusable::Crashed),
    }
}

fn fastest(best: Option<Duration>, lap: Duration) -> Option<Duration> {
    let instruction = lap / guest::LOOP_INSTRUCTIONS;
    Some(best.map_or(instruction, |best| best.min(instruction)))
}

fn stops(vcpu: &VcpuFd, why: String, best: Option<Duration>) -> Unusable {
    let step = guest::step(vcpu.get_regs().map(|regs| regs.r15).unwrap_or(0));
    let speed = best.map(|best| format!(", {} ns an instruction", best.as_nanos()));
    Unusable::Stops { step, why, speed: speed.unwrap_or_default() }
}

#[cfg(test)]
mod tests;
