//! Block device (virtio 1.2 section 5.2) whose parts are the disks of
//! `sandbox_vm_spec::disks`. Requests are done as they come, by the thread that
//! serves the device.

mod config;
mod disk;
mod request;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::{Device, DeviceError, QueueIo, Signals, Token};

pub use disk::Disk;

/// QEMU's virtio-mmio offers the driver 1024 for any queue.
const QUEUE_SIZES: [u16; 1] = [1024];
/// What is asked of the device, and not yet done.
const WAITING: usize = 16;
/// How long it may take: as long as a request of the guest that is being done.
const PATIENCE: Duration = Duration::from_secs(20);
/// Token of the bell.
const ASKED: Token = 0;

/// Disks by their numbers.
type Disks = HashMap<u16, Disk>;

/// See the module.
pub struct Blk {
    disks: Disks,
    config: [u8; config::LEN],
    bell: Arc<EventFd>,
    asked: Receiver<Asked>,
}

/// What is asked of the device, and who waits for it.
struct Asked {
    command: Command,
    answer: SyncSender<Result<(), Refused>>,
}

enum Command {
    Attach(u16, Disk),
    Detach(u16),
}

/// A disk that cannot be attached or detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its number is another one's.
    #[error("disk {0} is attached already")]
    Taken(u16),
    /// There is none.
    #[error("there is no disk {0}")]
    None(u16),
    /// The device does not answer.
    #[error("the block device has not answered for {} s", PATIENCE.as_secs())]
    Silent,
    /// The device is gone.
    #[error("the block device has ended with its machine")]
    Gone,
}

/// Whereby disks are attached and detached, from other threads.
#[derive(Clone)]
pub struct Handle {
    commands: SyncSender<Asked>,
    bell: Arc<EventFd>,
}

impl Handle {
    /// Lets the guest have a disk under this number.
    pub fn attach(&self, number: u16, disk: Disk) -> Result<(), Refused> {
        self.ask(Command::Attach(number, disk))
    }

    /// Closes it. Nothing is read or written any more once this has returned.
    pub fn detach(&self, number: u16) -> Result<(), Refused> {
        self.ask(Command::Detach(number))
    }

    fn ask(&self, command: Command) -> Result<(), Refused> {
        let (answer, answered) = sync_channel(1);
        self.commands.send(Asked { command, answer }).map_err(|_| Refused::Gone)?;
        // Fails on an overflow only: the device is awake then.
        let _ = self.bell.write(1);
        answered.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => Refused::Silent,
                RecvTimeoutError::Disconnected => Refused::Gone,
            })
        })
    }
}

impl Blk {
    /// A device without disks, and the handle to give it some.
    pub fn new() -> io::Result<(Self, Handle)> {
        let bell = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let (commands, asked) = sync_channel(WAITING);
        let handle = Handle { commands, bell: bell.clone() };
        Ok((Self { disks: Disks::new(), config: config::space(), bell, asked }, handle))
    }

    /// Has a disk without the way by the device's thread.
    #[cfg(any(test, feature = "mock"))]
    pub fn insert(&mut self, number: u16, disk: Disk) {
        self.disks.insert(number, disk);
    }

    fn settle(&mut self) {
        // Empty is what it is to be.
        let _ = self.bell.read();
        while let Ok(Asked { command, answer }) = self.asked.try_recv() {
            let done = self.change(command);
            // Who has lost patience does not listen any more.
            let _ = answer.send(done);
        }
    }

    fn change(&mut self, command: Command) -> Result<(), Refused> {
        match command {
            Command::Attach(number, _) if self.disks.contains_key(&number) => {
                Err(Refused::Taken(number))
            }
            Command::Attach(number, disk) => {
                self.disks.insert(number, disk);
                Ok(())
            }
            Command::Detach(number) => {
                self.disks.remove(&number).map(drop).ok_or(Refused::None(number))
            }
        }
    }
}

impl Device for Blk {
    fn kind(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        config::FEATURES
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn start(&mut self, _acked: u64) -> Result<Vec<(RawFd, EventSet, Token)>, DeviceError> {
        Ok(Vec::new())
    }

    fn standing(&self) -> Vec<(RawFd, EventSet, Token)> {
        vec![(self.bell.as_raw_fd(), EventSet::IN, ASKED)]
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
        self.settle();
        Ok(Signals::default())
    }

    /// The disks are the host's to detach.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests;
