//! Events that the engine's threads send to its main thread.

use std::io;

use sandbox_devices::mailbox::{Inbox, Mailbox, mailbox};
use sandbox_vm_spec::launch::VmEnd;

use super::virtio::{Shape, frontend};

/// Events that wait: each vCPU sends its end, and the others are sent once.
const MAX_EVENTS: usize = 64;

/// Something that the main thread acts on.
#[derive(Debug)]
pub enum Event {
    /// All backends have described their devices.
    Connected(Vec<Shape>),
    /// A backend cannot be used.
    BackendFailed(frontend::Error),
    /// The guest has written to its console for the first time.
    Console,
    /// The machine has ended.
    Ended(VmEnd),
}

#[derive(Clone, Debug)]
pub struct EventSender(Mailbox<Event>);

impl EventSender {
    /// Sends an event and wakes the main thread.
    pub fn send(&self, event: Event) {
        // The main thread drops its end with the process.
        let _ = self.0.send(event);
    }
}

pub fn channel() -> io::Result<(EventSender, Inbox<Event>)> {
    let (mailbox, inbox) = mailbox(MAX_EVENTS)?;
    Ok((EventSender(mailbox), inbox))
}
