//! A vCPU: a thread that runs the guest and answers its exits.

use std::cell::Cell;
use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use kvm_bindings::{
    KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_SIMUL_EX,
    KVM_SYSTEM_EVENT_CRASH, kvm_run,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use sandbox_vm_spec::launch::VmEnd;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::bus::Bus;
use super::events::{Event, EventSender};

/// Stack of a vCPU's thread: exits are answered by shallow functions.
const STACK: usize = 128 * 1024;

/// A vCPU that is set up and does not run yet.
pub struct Vcpu {
    /// KVM's side of it.
    pub fd: VcpuFd,
    /// Its number and APIC id.
    pub id: u8,
    /// What its exits reach.
    pub bus: Bus,
    /// To the main thread.
    pub events: EventSender,
}

/// A vCPU that runs.
pub struct Running {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

/// What a vCPU does next.
enum State {
    Running,
    Stopped,
    /// The machine has ended.
    Ended(VmEnd),
}

thread_local! {
    /// The `kvm_run` of this thread, for [`kick`], which
    /// runs in a signal handler: constant and without a destructor, so that
    /// its use needs no allocation.
    static KVM_RUN: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

/// Signal handler: makes the KVM_RUN that this thread is in, or enters next,
/// return at once.
extern "C" fn kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let run = KVM_RUN.get();
    if !run.is_null() {
        // SAFETY: set by the thread that this handler runs on, while it owns
        // the mapping.
        unsafe { ptr::addr_of_mut!((*run).immediate_exit).write_volatile(1) };
    }
}

/// Installs the handler of the signal that [`Running::stop`] sends.
pub fn install_kick() -> io::Result<()> {
    register_signal_handler(SIGRTMIN(), kick).map_err(|e| io::Error::from_raw_os_error(e.errno()))
}

impl Vcpu {
    pub fn start(mut self) -> io::Result<Running> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name(format!("vcpu{}", self.id))
            .stack_size(STACK)
            .spawn(move || self.run(&stopped))?;
        Ok(Running { thread, stop })
    }

    fn run(&mut self, stop: &AtomicBool) {
        KVM_RUN.set(ptr::from_mut(self.fd.get_kvm_run()));
        let mut state = State::Running;
        let end = loop {
            state = match state {
                State::Running if stop.load(Ordering::Acquire) => State::Stopped,
                State::Running => self.step(),
                State::Stopped => break None,
                State::Ended(end) => break Some(end),
            }
        };
        KVM_RUN.set(ptr::null_mut());
        if let Some(end) = end {
            self.bus.finish();
            self.events.send(Event::Ended(end));
        }
    }

    fn step(&mut self) -> State {
        let exit = match self.fd.run() {
            Ok(exit) => exit,
            Err(error) => return self.interrupted(error),
        };
        match handle(exit, &self.bus) {
            Handled::On => State::Running,
            Handled::End(end) => State::Ended(end),
            Handled::InternalError => State::Ended(VmEnd::Error(self.internal_error())),
        }
    }

    fn interrupted(&mut self, error: kvm_ioctls::Error) -> State {
        match error.errno() {
            libc::EAGAIN => State::Running,
            libc::EINTR => {
                self.fd.set_kvm_immediate_exit(0);
                State::Running
            }
            libc::EFAULT => State::Ended(VmEnd::Error(
                "cannot allocate guest memory: the host's or the pod's memory limit is exhausted"
                    .into(),
            )),
            _ => State::Ended(VmEnd::Error(format!("KVM_RUN of vCPU {}: {error}", self.id))),
        }
    }

    /// KVM's reason, and the address of the instruction.
    fn internal_error(&mut self) -> String {
        let address = self.fd.get_regs().map(|regs| regs.rip).unwrap_or(0);
        // SAFETY: KVM has just exited with the reason that this part of the
        // union belongs to.
        let error = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal };
        let what = match error.suberror {
            KVM_INTERNAL_ERROR_EMULATION => "cannot emulate an instruction",
            KVM_INTERNAL_ERROR_SIMUL_EX => "met two exceptions at once",
            KVM_INTERNAL_ERROR_DELIVERY_EV => "cannot deliver an event",
            _ => "met an internal error",
        };
        let (id, suberror) = (self.id, error.suberror);
        format!("KVM {what} (vCPU {id} at {address:#x}, suberror {suberror})")
    }
}

impl Running {
    /// Stops the vCPU, wherever it is, and waits until its thread has ended.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        // Fails when the thread has ended already.
        let _ = self.thread.kill(SIGRTMIN());
        // A panic of the thread has printed its own message.
        let _ = self.thread.join();
    }
}

/// What an exit leads to.
enum Handled {
    On,
    End(VmEnd),
    /// [`Vcpu::internal_error`] has the words.
    InternalError,
}

fn handle(exit: VcpuExit, bus: &Bus) -> Handled {
    match exit {
        VcpuExit::IoIn(port, data) => bus.port_read(port, data),
        VcpuExit::IoOut(port, data) => {
            if let Some(end) = bus.port_write(port, data) {
                return Handled::End(end);
            }
        }
        VcpuExit::MmioRead(address, data) => bus.memory_read(address, data),
        VcpuExit::MmioWrite(address, data) => bus.memory_write(address, data),
        VcpuExit::Intr | VcpuExit::IrqWindowOpen => {}
        VcpuExit::Shutdown => return Handled::End(VmEnd::TripleFault),
        VcpuExit::SystemEvent(kind, _) => return Handled::End(system_event(kind)),
        VcpuExit::InternalError => return Handled::InternalError,
        VcpuExit::FailEntry(reason, cpu) => {
            return error(format!("the host's CPU {cpu} refuses the guest's state ({reason:#x})"));
        }
        VcpuExit::MemoryFault { gpa, .. } => {
            return error(format!("the host cannot provide guest memory at {gpa:#x}"));
        }
        exit => return error(format!("KVM stopped for a reason unknown here: {exit:?}")),
    }
    Handled::On
}

fn system_event(kind: u32) -> VmEnd {
    match kind {
        KVM_SYSTEM_EVENT_CRASH => VmEnd::Error("the guest reported a crash to KVM".into()),
        _ => VmEnd::Reset,
    }
}

fn error(words: String) -> Handled {
    Handled::End(VmEnd::Error(words))
}
