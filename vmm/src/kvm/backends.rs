//! The thread that exchanges messages with the devices' backends, one at a
//! time, and the timer by which the main thread watches it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use vm_memory::GuestMemoryMmap;

use super::events::{Event, EventSender};
use super::virtio::frontend::{Backend, Error};
use super::virtio::{Job, Slots};

/// Timeout of one job. Backends answer in microseconds; this ends a machine
/// whose backend hangs.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Stack of the thread: vhost-user messages are small.
const STACK: usize = 128 * 1024;

/// What the thread is waiting for, and since when too long.
#[derive(Debug)]
pub struct Clock {
    timer: TimerFd,
    waiting_for: Mutex<(&'static str, &'static str)>,
}

impl Clock {
    /// A clock that is not running.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self { timer, waiting_for: Mutex::new(("", "")) })
    }

    fn start(&self) {
        let timeout = Expiration::OneShot(TimeSpec::from_duration(TIMEOUT));
        // A timer of ours with a valid time: there is no error to have.
        let _ = self.timer.set(timeout, TimerSetTimeFlags::empty());
    }

    fn stop(&self) {
        let _ = self.timer.unset();
    }

    fn wait_for(&self, device: &'static str, message: &'static str) {
        *self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner) = (device, message);
    }

    /// Device and message that are under way.
    pub fn waiting_for(&self) -> (&'static str, &'static str) {
        *self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Clock {
    /// Readable when [`TIMEOUT`] is over.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// What the thread works with.
pub struct Worker {
    /// In the order of their slots.
    pub backends: Vec<Backend>,
    pub memory: GuestMemoryMmap,
    /// Watched by the main thread.
    pub clock: Arc<Clock>,
    /// To the main thread.
    pub events: EventSender,
}

impl Worker {
    /// Starts the thread. It performs the handshake with all backends, puts [`Event::Connected`],
    /// takes the slots that are made of it, and then does jobs until their
    /// sender is gone.
    pub fn start(mut self, slots: Receiver<Arc<Slots>>, jobs: Receiver<Job>) -> io::Result<()> {
        let work = move || {
            if let Err(error) = self.work(&slots, &jobs) {
                self.events.send(Event::BackendFailed(error));
            }
        };
        thread::Builder::new().name("backends".into()).stack_size(STACK).spawn(work)?;
        Ok(())
    }

    fn work(&mut self, slots: &Receiver<Arc<Slots>>, jobs: &Receiver<Job>) -> Result<(), Error> {
        self.handshake()?;
        let Ok(slots) = slots.recv() else { return Ok(()) };
        for job in jobs {
            self.clock.start();
            self.perform(&slots, job)?;
            self.clock.stop();
        }
        Ok(())
    }

    fn handshake(&mut self) -> Result<(), Error> {
        let clock = self.clock.clone();
        clock.start();
        let mut shapes = Vec::new();
        for backend in &mut self.backends {
            let device = backend.kind().name;
            let step = |message| clock.wait_for(device, message);
            shapes.push(backend.handshake(&self.memory, &step)?);
        }
        clock.stop();
        self.events.send(Event::Connected(shapes));
        Ok(())
    }

    fn perform(&mut self, slots: &Slots, job: Job) -> Result<(), Error> {
        let (Job::Activate(index, _) | Job::Reset(index)) = job;
        let (Some(backend), Some(slot)) = (self.backends.get_mut(index), slots.get(index)) else {
            return Ok(());
        };
        let device = backend.kind().name;
        match job {
            Job::Activate(_, activation) => {
                if !activation.fits(&self.memory) {
                    slot.fail();
                    return Ok(());
                }
                self.clock.wait_for(device, "SET_VRING_ENABLE");
                backend.activate(slot, &self.memory, &activation)
            }
            Job::Reset(_) => {
                self.clock.wait_for(device, "GET_VRING_BASE");
                backend.reset()?;
                slot.reset_done();
                Ok(())
            }
        }
    }
}
