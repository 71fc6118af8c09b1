//! `sandbox-vmm`: the processes of a sandbox.
//!
//! `kvm` and `qemu` run the machine, `io` and `fs` serve its devices over
//! vhost-user, `probe` reports whether `/dev/kvm` can run a guest. The shim
//! starts all but `probe` and exchanges messages with them by [`control`].

mod backend;
mod console;
mod control;
mod disks;
mod fs;
mod io;
mod jail;
mod kvm;
mod logger;
mod network;
mod probe;
mod qemu;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use control::{Control, ControlError};
use sandbox_vm_spec::failure::chain;
use sandbox_vm_spec::launch::{Launch, Report};

/// The processes of a sandbox. Started by the shim, not by hand.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    process: Process,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Process {
    /// Run the virtual machine on /dev/kvm
    Kvm,
    /// Run the virtual machine in QEMU
    Qemu,
    /// Serve the rng, vsock, net and blk devices
    Io,
    /// Serve the pod's share
    Fs,
    /// Tell whether /dev/kvm can run a guest, as one line of JSON
    Probe,
}

/// Why a process ended; printed once and sent to the shim.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(
        "invalid launch message for `sandbox-vmm {0:?}`: it is the launch message of another process"
    )]
    WrongLaunch(Process),
    #[error(transparent)]
    Fs(#[from] fs::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    #[error(transparent)]
    Qemu(#[from] qemu::Error),
    #[error(transparent)]
    Probe(#[from] probe::Error),
}

fn main() -> ExitCode {
    let began = Instant::now();
    let process = Arguments::parse().process;
    logger::install(process.name());
    let result = match process {
        Process::Probe => probe::run().map_err(Error::from),
        process => serve(process, began),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve(process: Process, began: Instant) -> Result<(), Error> {
    let control = Control::take()?;
    launch(process, &control, began).inspect_err(|error| {
        // The shim learns of a failure by the exit status too: a report that
        // cannot be sent is no second failure.
        let _ = control.report(&Report::Failed { error: chain(error) });
    })
}

fn launch(process: Process, control: &Control, began: Instant) -> Result<(), Error> {
    let launch = control.launch()?;
    logger::name_sandbox(launch.sandbox());
    match (process, launch) {
        (Process::Kvm, Launch::Kvm(launch)) => Ok(kvm::run(launch, control, began)?),
        (Process::Fs, Launch::Fs(launch)) => Ok(fs::run(launch, control)?),
        (Process::Io, Launch::Io(launch)) => Ok(io::run(launch, control)?),
        (Process::Qemu, Launch::Qemu(launch)) => Ok(qemu::run(launch, control)?),
        (process, _) => Err(Error::WrongLaunch(process)),
    }
}

impl Process {
    fn name(self) -> &'static str {
        match self {
            Process::Kvm => "kvm",
            Process::Qemu => "qemu",
            Process::Io => "io",
            Process::Fs => "fs",
            Process::Probe => "probe",
        }
    }
}
