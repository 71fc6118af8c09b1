//! The kvm engine: a machine on `/dev/kvm` whose devices are vhost-user
//! backends in other processes.
//!
//! The main thread builds the machine and then waits for what ends it; one
//! thread speaks with the backends; each vCPU has a thread. Rings, packets
//! and files never come here: notifications and interrupts pass between KVM
//! and the backends directly.

mod backends;
mod boot;
mod bus;
pub mod cpuid;
mod events;
pub mod layout;
mod loader;
mod machine;
pub mod memory;
mod mp_table;
mod ports;
pub mod registers;
mod stages;
mod supervisor;
mod vcpu;
mod virtio;

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use kvm_ioctls::Kvm;
use sandbox_vm_spec::cmdline::{self, cmdline};
use sandbox_vm_spec::devices::DeviceSpec;
use sandbox_vm_spec::launch::{DeviceSocket, KvmLaunch, Report};
use sandbox_vm_spec::{SpecError, VmSpec};

use crate::console::Console;
use backends::{Clock, Worker};
use events::Event;
use machine::{Machine, PendingVm};
use stages::Stages;
use supervisor::{Supervisor, Wakeup};
use virtio::frontend::Backend;
use virtio::{Shape, Slot, Slots};

use crate::control::{Control, ControlError, inherited};
use crate::jail::{Jail, JailError, Network, Root};

/// The kvm engine cannot run the machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error(transparent)]
    Memory(#[from] memory::Error),
    #[error(transparent)]
    Machine(#[from] machine::Error),
    #[error(transparent)]
    Boot(#[from] boot::Error),
    #[error(transparent)]
    Slot(#[from] virtio::SlotError),
    #[error(transparent)]
    Supervisor(#[from] supervisor::Error),
    /// A thread or descriptor could not be made.
    #[error("cannot start the engine's threads")]
    Start(#[source] io::Error),
}

/// The process has all its descriptors and needs no files, network or
/// privileges.
const JAIL: Jail = Jail {
    root: Root::Files(Vec::new()),
    network: Network::None,
    capabilities: &[],
    files: MAX_FILES,
    memory: Some(MAX_MEMORY),
};
/// Descriptors: five per device and one per vCPU at most, with room.
const MAX_FILES: u64 = 512;
/// Memory beside the guest's: some MiB are used, stacks are the most of it.
const MAX_MEMORY: u64 = 64 << 20;

/// What the launch message names, owned.
struct Inherited {
    kvm: Kvm,
    kernel: File,
    initramfs: File,
    console: File,
    devices: Vec<(&'static DeviceSpec, OwnedFd)>,
}

/// Runs the machine until it ends; `began` is when the process began.
pub fn run(launch: KvmLaunch, control: &Control, began: Instant) -> Result<(), Error> {
    launch.vm.validate()?;
    let inherited = Inherited::take(&launch)?;
    let mut stages = Stages::since(began);
    JAIL.enter()?;
    stages.reach("jailed");
    let pending = PendingVm::start(inherited.kvm)?;
    let memory = memory::make(u64::from(launch.vm.memory_mib))?;
    let (sink, events) = events::channel().map_err(Error::Start)?;
    let clock = Arc::new(Clock::new().map_err(Error::Start)?);
    let (backends, sockets) = backends(inherited.devices)?;
    let kinds: Vec<_> = sockets.iter().map(|(kind, _)| *kind).collect();
    let (slots_sender, slots_receiver) = mpsc::channel();
    let (jobs_sender, jobs) = mpsc::channel();
    let worker =
        Worker { backends, memory: memory.clone(), clock: clock.clone(), events: sink.clone() };
    worker.start(slots_receiver, jobs).map_err(Error::Start)?;
    let supervisor = Supervisor { control, events, clock, backends: sockets };

    let words = command_line(&launch.vm, kinds.len());
    let entry =
        boot::load(&memory, launch.vm.vcpus, inherited.kernel, inherited.initramfs, &words)?;
    stages.reach("loaded");
    let machine = Machine::new(pending, memory.clone(), launch.vm.vcpus)?;
    machine.boot_at(entry)?;
    stages.reach("machine");
    let Some(shapes) = connected(&supervisor)? else { return Ok(()) };
    stages.reach("devices");
    let slots = Arc::new(slots(kinds, shapes, jobs_sender)?);
    slots.connect(machine.vm())?;
    // The thread has greeted all backends, and waits for this.
    let _ = slots_sender.send(slots.clone());
    let console = Console::new(inherited.console, launch.console_max);
    let live = machine.start(slots.clone(), console, &sink)?;
    stages.reach("running");
    let reports = stages.take().into_iter().chain([Report::Ready]).collect::<Vec<_>>();
    control.report_all(&reports)?;
    let outcome = supervisor.run(&slots, &mut stages);
    live.stop();
    Ok(outcome?)
}

impl Inherited {
    fn take(launch: &KvmLaunch) -> Result<Self, ControlError> {
        let kvm = inherited(launch.kvm, "/dev/kvm")?;
        let device = |backend: &DeviceSocket| {
            let kind = backend.kind.spec();
            Ok((kind, inherited(backend.socket, "vhost-user socket")?))
        };
        Ok(Self {
            // SAFETY: taken over from `kvm`, which owns it.
            kvm: unsafe { Kvm::from_raw_fd(kvm.into_raw_fd()) },
            kernel: inherited(launch.kernel, "kernel")?.into(),
            initramfs: inherited(launch.initramfs, "initramfs")?.into(),
            console: inherited(launch.console, "console log")?.into(),
            devices: launch.devices.iter().map(device).collect::<Result<_, _>>()?,
        })
    }
}

type Sockets = Vec<(&'static DeviceSpec, OwnedFd)>;

/// The backends, and their sockets once more for the main thread to watch.
fn backends(devices: Sockets) -> Result<(Vec<Backend>, Sockets), Error> {
    let mut sockets = Vec::new();
    for (kind, socket) in &devices {
        sockets.push((*kind, socket.try_clone().map_err(Error::Start)?));
    }
    let backends = devices.into_iter().map(|(kind, socket)| Backend::new(kind, socket)).collect();
    Ok((backends, sockets))
}

/// The kernel's command line: what every guest gets, the words of the spec,
/// and the devices at their places.
fn command_line(vm: &VmSpec, devices: usize) -> String {
    let device = |slot| {
        let (address, irq) = (layout::slot_address(slot), layout::slot_irq(slot));
        format!("virtio_mmio.device=4K@{address:#x}:{irq}")
    };
    let words = [cmdline(cmdline::Machine::Kvm, vm)].into_iter().chain((0..devices).map(device));
    words.collect::<Vec<_>>().join(" ")
}

/// Waits until all backends have described their devices; `None` if the shim
/// exits first.
fn connected(supervisor: &Supervisor) -> Result<Option<Vec<Shape>>, Error> {
    loop {
        match supervisor.wait(None)? {
            Wakeup::Event(Event::Connected(shapes)) => return Ok(Some(shapes)),
            Wakeup::Event(Event::BackendFailed(error)) => {
                return Err(supervisor::Error::from(error).into());
            }
            Wakeup::Event(_) => {}
            Wakeup::ShimGone => return Ok(None),
        }
    }
}

fn slots(
    kinds: Vec<&'static DeviceSpec>,
    shapes: Vec<Shape>,
    jobs: mpsc::Sender<virtio::Job>,
) -> Result<Slots, virtio::SlotError> {
    let made = kinds.into_iter().zip(shapes).map(|(kind, shape)| Slot::new(kind, shape));
    Slots::new(made.collect::<Result<_, _>>()?, jobs)
}

#[cfg(test)]
mod tests;
