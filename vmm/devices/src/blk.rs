//! Block device (virtio 1.2 section 5.2), divided into the disks of
//! `sandbox_vm_spec::disks`. The device's thread serves one request at a time.

mod config;
mod disk;
mod request;

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use sandbox_vm_spec::devices::DeviceKind;
use vmm_sys_util::epoll::EventSet;

use crate::mailbox::{Inbox, Mailbox, MailboxError, mailbox};
use crate::{Device, DeviceError, QueueIo, Signals, Token, Watched};

pub use disk::Disk;

/// Commands that wait for the device's thread.
const MAX_COMMANDS: usize = 16;
/// A command waits for the guest's request in progress, which may be a write
/// to a slow disk.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Token of the mailbox.
const COMMAND: Token = 0;

/// Disks by their numbers.
type Disks = HashMap<u16, Disk>;

/// The block device.
pub struct Blk {
    disks: Disks,
    config: [u8; config::LEN],
    inbox: Inbox<Command, Result<(), DiskError>>,
}

enum Command {
    Attach(u16, Disk),
    Detach(u16),
}

/// A disk was not attached or detached.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    #[error("disk {0} is attached already")]
    Attached(u16),
    #[error("disk {0} is not attached")]
    Missing(u16),
    #[error("the block device does not reply")]
    Mailbox(#[from] MailboxError),
}

/// Attaches and detaches disks, from other threads.
#[derive(Clone)]
pub struct Handle(Mailbox<Command, Result<(), DiskError>>);

impl Handle {
    /// Makes `disk` visible to the guest as number `number`.
    pub fn attach(&self, number: u16, disk: Disk) -> Result<(), DiskError> {
        self.0.call(Command::Attach(number, disk), TIMEOUT)?
    }

    /// Closes the disk. The device does not read or write it after this
    /// returns.
    pub fn detach(&self, number: u16) -> Result<(), DiskError> {
        self.0.call(Command::Detach(number), TIMEOUT)?
    }
}

impl Blk {
    /// A device without disks, and the handle that attaches them.
    pub fn new() -> io::Result<(Self, Handle)> {
        let (mailbox, inbox) = mailbox(MAX_COMMANDS)?;
        Ok((Self { disks: Disks::new(), config: config::space(), inbox }, Handle(mailbox)))
    }

    /// Attaches a disk without the device's thread.
    #[cfg(any(test, feature = "mock"))]
    pub fn insert(&mut self, number: u16, disk: Disk) {
        self.disks.insert(number, disk);
    }

    fn change(&mut self, command: Command) -> Result<(), DiskError> {
        match command {
            Command::Attach(number, _) if self.disks.contains_key(&number) => {
                Err(DiskError::Attached(number))
            }
            Command::Attach(number, disk) => {
                self.disks.insert(number, disk);
                Ok(())
            }
            Command::Detach(number) => {
                self.disks.remove(&number).map(drop).ok_or(DiskError::Missing(number))
            }
        }
    }
}

impl Device for Blk {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Blk
    }

    fn features(&self) -> u64 {
        config::FEATURES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn standing(&self) -> Vec<Watched> {
        vec![(self.inbox.waker().as_raw_fd(), EventSet::IN, COMMAND)]
    }

    fn kicked(&mut self, queue: usize, io: &mut [QueueIo]) -> Result<Signals, DeviceError> {
        if let Some(kicked) = io.get_mut(queue) {
            let disks = &mut self.disks;
            kicked.answer_all(|chain, memory| {
                let answered = request::answer(chain, memory, disks);
                answered.map_err(|reason| DeviceError::Request { queue, reason })
            })?;
        }
        Signals::collect(io)
    }

    fn ready(
        &mut self,
        _token: Token,
        _set: EventSet,
        _io: &mut [QueueIo],
    ) -> Result<Signals, DeviceError> {
        self.inbox.waker().clear();
        while let Some(message) = self.inbox.take() {
            let (command, reply) = message.split();
            reply(self.change(command));
        }
        Ok(Signals::default())
    }
    // The disks stay attached over a reset: the host detaches them.
}

#[cfg(test)]
mod tests;
