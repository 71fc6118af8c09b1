//! A virtual machine: KVM's VM with interrupt controllers, memory and vCPUs.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use super::bus::Bus;
use super::events::EventSender;
use super::ports::{Interrupt, Ports, SERIAL_IRQ};
use super::vcpu::{self, Running, Vcpu};
use super::virtio::Slots;
use super::{cpuid, layout, memory, registers};
use crate::console::Console;

/// Stack of the thread that creates the VM, which is one system call.
const STACK: usize = 32 * 1024;

/// The machine cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} failed")]
    Make { what: &'static str, source: kvm_ioctls::Error },
    #[error(transparent)]
    Memory(#[from] memory::Error),
    #[error(transparent)]
    Cpuid(#[from] cpuid::Error),
    /// A vCPU could not be set up.
    #[error("cannot set up vCPU {id}")]
    Vcpu { id: u8, source: registers::Error },
    /// The first page tables could not be written.
    #[error("cannot write the initial page tables into guest memory")]
    Tables(#[source] vm_memory::GuestMemoryError),
    /// A thread or an eventfd could not be made.
    #[error("cannot start {what}")]
    Start { what: &'static str, source: io::Error },
}

pub struct Machine {
    vcpus: Vec<VcpuFd>,
    vm: VmFd,
    // After the VM, which uses it.
    memory: GuestMemoryMmap,
}

/// A VM that another thread creates: KVM_CREATE_VM waits for milliseconds for
/// all CPUs of the host.
pub struct PendingVm(JoinHandle<Result<(Kvm, VmFd), kvm_ioctls::Error>>);

impl PendingVm {
    pub fn start(kvm: Kvm) -> Result<Self, Error> {
        let make = move || kvm.create_vm().map(|vm| (kvm, vm));
        let builder = thread::Builder::new().name("make".into()).stack_size(STACK);
        builder.spawn(make).map(Self).map_err(not_started("the thread that creates the VM"))
    }

    fn finish(self) -> Result<(Kvm, VmFd), Error> {
        // Neither it nor what it calls panics.
        let made = self.0.join().unwrap_or(Err(kvm_ioctls::Error::new(libc::EFAULT)));
        made.map_err(refused("KVM_CREATE_VM"))
    }
}

impl Machine {
    /// A machine of `vcpus` processors over `memory`.
    pub fn new(pending: PendingVm, memory: GuestMemoryMmap, vcpus: u8) -> Result<Self, Error> {
        let (kvm, vm) = pending.finish()?;
        vm.set_identity_map_address(layout::IDENTITY_MAP)
            .map_err(refused("KVM_SET_IDENTITY_MAP_ADDR"))?;
        vm.set_tss_address(layout::TSS).map_err(refused("KVM_SET_TSS_ADDR"))?;
        vm.create_irq_chip().map_err(refused("KVM_CREATE_IRQCHIP"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        vm.create_pit2(pit).map_err(refused("KVM_CREATE_PIT2"))?;
        memory::register(&vm, &memory)?;
        let vcpus = make_vcpus(&kvm, &vm, vcpus)?;
        Ok(Self { vcpus, vm, memory })
    }

    /// Sets the first vCPU up to begin at `entry`.
    pub fn boot_at(&self, entry: u64) -> Result<(), Error> {
        registers::write_tables(&self.memory).map_err(Error::Tables)?;
        match self.vcpus.first() {
            Some(vcpu) => {
                registers::boot(vcpu, entry).map_err(|source| Error::Vcpu { id: 0, source })
            }
            None => Ok(()),
        }
    }

    /// KVM's side of the machine.
    pub fn vm(&self) -> &VmFd {
        &self.vm
    }

    /// Starts all vCPUs, the first last: the others wait for it.
    pub fn start(
        self,
        slots: Arc<Slots>,
        console: Console,
        events: &EventSender,
    ) -> Result<Live, Error> {
        vcpu::install_kick().map_err(not_started("vCPUs"))?;
        let interrupt = EventFd::new(EFD_CLOEXEC).map_err(not_started("the serial console"))?;
        self.vm
            .register_irqfd(&interrupt, SERIAL_IRQ)
            .map_err(refused("KVM_IRQFD of the serial console"))?;
        let bus = Bus::new(Ports::new(Interrupt(interrupt), console, events.clone()), slots);
        let mut running = Vec::new();
        for (id, fd) in self.vcpus.into_iter().enumerate().rev() {
            let vcpu = Vcpu { fd, id: id as u8, bus: bus.clone(), events: events.clone() };
            running.push(vcpu.start().map_err(not_started("a vCPU's thread"))?);
        }
        Ok(Live { running, _vm: self.vm, _memory: self.memory })
    }
}

/// A machine whose vCPUs run.
pub struct Live {
    running: Vec<Running>,
    _vm: VmFd,
    _memory: GuestMemoryMmap,
}

impl Live {
    /// Stops all vCPUs and waits for their threads.
    pub fn stop(self) {
        self.running.into_iter().for_each(Running::stop);
    }
}

fn make_vcpus(kvm: &Kvm, vm: &VmFd, vcpus: u8) -> Result<Vec<VcpuFd>, Error> {
    let template = cpuid::Template::new(kvm, vcpus)?;
    let make = |id: u8| {
        let vcpu = vm.create_vcpu(u64::from(id)).map_err(refused("KVM_CREATE_VCPU"))?;
        vcpu.set_cpuid2(&template.of(id)?).map_err(refused("KVM_SET_CPUID2"))?;
        registers::msrs(&vcpu)
            .and_then(|()| registers::local_apic(&vcpu))
            .map_err(|source| Error::Vcpu { id, source })?;
        Ok(vcpu)
    };
    (0..vcpus).map(make).collect()
}

fn refused(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |source| Error::Make { what, source }
}

fn not_started(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Start { what, source }
}
