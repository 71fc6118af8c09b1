//! What the threads of the engine tell its main thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use sandbox_vm_spec::launch::VmEnd;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::virtio::{Shape, frontend};

/// Something that the main thread acts on.
#[derive(Debug)]
pub enum Event {
    /// All backends have told what their devices are.
    Greeted(Vec<Shape>),
    /// A backend cannot be used.
    BackendFailed(frontend::Error),
    /// The guest has written to its console for the first time.
    Console,
    /// The machine has ended.
    Ended(VmEnd),
}

/// Where events are put.
#[derive(Clone, Debug)]
pub struct Sink {
    events: Sender<Event>,
    wake: Arc<EventFd>,
}

impl Sink {
    /// Puts an event and wakes the main thread.
    pub fn put(&self, event: Event) {
        // The main thread takes events until the process ends.
        let _ = self.events.send(event);
        let _ = self.wake.write(1);
    }
}

/// Where events are taken.
#[derive(Debug)]
pub struct Source {
    events: Receiver<Event>,
    wake: Arc<EventFd>,
}

impl Source {
    /// The next event, if there is one. A wake-up that is taken here belongs
    /// to an event that the next calls return.
    pub fn take(&self) -> Option<Event> {
        self.events.try_recv().ok().or_else(|| {
            // Empty when there was no event since.
            let _ = self.wake.read();
            self.events.try_recv().ok()
        })
    }
}

impl AsFd for Source {
    /// Readable when there may be an event.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the eventfd lives as long as self, and so does the borrow.
        unsafe { BorrowedFd::borrow_raw(self.wake.as_raw_fd()) }
    }
}

/// Both ends.
pub fn channel() -> io::Result<(Sink, Source)> {
    let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
    let (sender, receiver) = mpsc::channel();
    Ok((Sink { events: sender, wake: wake.clone() }, Source { events: receiver, wake }))
}
