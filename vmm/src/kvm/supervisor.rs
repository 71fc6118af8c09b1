//! The main thread once the machine runs: it waits for what ends the machine.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox_devices::mailbox::Inbox;
use sandbox_vm_spec::devices::DeviceSpec;
use sandbox_vm_spec::launch::{Report, VmEnd};

use super::backends::{Clock, TIMEOUT};
use super::events::Event;
use super::stages::Stages;
use super::virtio::{Slots, frontend};
use crate::control::{Control, ControlError};

/// The machine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot wait for the machine")]
    Poll(#[source] io::Error),
    #[error(transparent)]
    Backend(#[from] frontend::Error),
    #[error("the backend of the {0} device has exited; its own log line says why")]
    BackendGone(&'static str),
    #[error(
        "the backend of the {device} device has not answered {message} for {seconds} seconds",
        seconds = TIMEOUT.as_secs()
    )]
    BackendHangs { device: &'static str, message: &'static str },
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// What the main thread waits for.
pub enum Wakeup {
    /// An event from a thread.
    Event(Event),
    /// The shim has exited.
    ShimGone,
}

pub struct Supervisor<'a> {
    pub control: &'a Control,
    pub events: Inbox<Event>,
    /// Runs while a backend is asked.
    pub clock: Arc<Clock>,
    /// The backends' sockets, with what they are.
    pub backends: Vec<(&'static DeviceSpec, OwnedFd)>,
}

impl Supervisor<'_> {
    /// Waits for the next event. With `slots`, their devices' failures are
    /// passed on to the guest meanwhile.
    pub fn wait(&self, slots: Option<&Slots>) -> Result<Wakeup, Error> {
        loop {
            let message = self.events.take().or_else(|| {
                self.events.waker().clear();
                self.events.take()
            });
            if let Some(message) = message {
                return Ok(Wakeup::Event(message.command));
            }
            let ready = self.poll(slots)?;
            if ready.shim {
                return Ok(Wakeup::ShimGone);
            }
            self.check_clock(ready.clock)?;
            // An event of the thread says more than that a backend hung up.
            if !ready.event
                && let Some(kind) = ready.backend
            {
                return Err(Error::BackendGone(kind.name));
            }
            let failed = |index: &usize| slots.and_then(|slots| slots.get(*index));
            ready.failed.iter().filter_map(failed).for_each(|slot| slot.fail());
        }
    }

    fn check_clock(&self, over: bool) -> Result<(), Error> {
        let (device, message) = self.clock.waiting_for();
        if over { Err(Error::BackendHangs { device, message }) } else { Ok(()) }
    }

    fn poll(&self, slots: Option<&Slots>) -> Result<Ready, Error> {
        let errors: Vec<_> = slots.iter().flat_map(|s| s.iter()).map(|s| s.error_fd()).collect();
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![
            readable(self.control.as_fd()),
            readable(self.events.waker().as_fd()),
            readable(self.clock.as_fd()),
        ];
        let fixed = fds.len();
        // Replies are the other thread's to read: POLLHUP is reported without a request.
        let sockets =
            self.backends.iter().map(|(_, fd)| PollFd::new(fd.as_fd(), PollFlags::empty()));
        fds.extend(sockets);
        fds.extend(errors.into_iter().map(readable));
        while let Err(error) = poll(&mut fds, PollTimeout::NONE) {
            if error != nix::errno::Errno::EINTR {
                return Err(Error::Poll(error.into()));
            }
        }
        let hit: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let (sockets, errors) = hit[fixed..].split_at(self.backends.len());
        let gone = sockets.iter().position(|hit| *hit);
        Ok(Ready {
            shim: hit[0],
            event: hit[1],
            clock: hit[2],
            backend: gone.and_then(|index| self.backends.get(index)).map(|(kind, _)| *kind),
            failed: (0..errors.len()).filter(|index| errors[*index]).collect(),
        })
    }

    /// Waits until the machine ends; reports stages and end to the shim.
    pub fn run(&self, slots: &Slots, stages: &mut Stages) -> Result<(), Error> {
        loop {
            match self.wait(Some(slots))? {
                Wakeup::ShimGone => return Ok(()),
                Wakeup::Event(Event::Ended(end)) => return self.report_end(end),
                Wakeup::Event(Event::BackendFailed(error)) => return Err(error.into()),
                Wakeup::Event(Event::Console) => {
                    stages.reach("console");
                    self.control.report_all(&stages.take())?;
                }
                Wakeup::Event(Event::Connected(_)) => {}
            }
        }
    }

    fn report_end(&self, end: VmEnd) -> Result<(), Error> {
        Ok(self.control.report(&Report::Ended { end })?)
    }
}

/// Which of the descriptors are ready.
struct Ready {
    shim: bool,
    event: bool,
    clock: bool,
    /// A backend that hung up.
    backend: Option<&'static DeviceSpec>,
    /// Slots whose backend signalled an error.
    failed: Vec<usize>,
}
