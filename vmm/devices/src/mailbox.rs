//! A bounded queue of commands for one thread, and the eventfd that wakes the
//! thread from its poll or epoll loop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

/// A command that was not delivered, or that got no reply.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    #[error("its thread has ended")]
    Closed,
    #[error("its queue is full")]
    Full,
    /// The receiver did not reply in time.
    #[error("no reply within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Returns both ends of a queue that holds `bound` commands.
pub fn mailbox<C, R>(bound: usize) -> io::Result<(Mailbox<C, R>, Inbox<C, R>)> {
    let (sender, receiver) = sync_channel(bound);
    let waker = Waker::new()?;
    Ok((Mailbox { sender, waker: waker.clone() }, Inbox { receiver, waker }))
}

/// Wakes the thread that polls an [`Inbox`].
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A new eventfd, not ready.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Makes the eventfd readable.
    pub fn wake(&self) {
        // EAGAIN means that the counter is at its maximum: readable already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes the eventfd unreadable. Commands that came before are to be taken
    /// after this call.
    pub fn clear(&self) {
        // EAGAIN means that it was not readable.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A command and the channel of its reply.
#[derive(Debug)]
pub struct Message<C, R> {
    /// The command.
    pub command: C,
    reply: Option<SyncSender<R>>,
}

impl<C, R> Message<C, R> {
    /// Separates the command from the sender of its reply.
    pub fn split(self) -> (C, impl FnOnce(R)) {
        let Self { command, reply } = self;
        let send = move |answer| {
            if let Some(reply) = reply {
                // The caller may have timed out.
                let _ = reply.try_send(answer);
            }
        };
        (command, send)
    }
}

/// The senders' end.
#[derive(Debug)]
pub struct Mailbox<C, R = ()> {
    sender: SyncSender<Message<C, R>>,
    waker: Waker,
}

impl<C, R> Clone for Mailbox<C, R> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), waker: self.waker.clone() }
    }
}

impl<C, R> Mailbox<C, R> {
    /// Sends a command that gets no reply; waits while the queue is full.
    pub fn send(&self, command: C) -> Result<(), MailboxError> {
        self.put(Message { command, reply: None })
    }

    /// Sends a command that gets no reply; fails when the queue is full.
    pub fn try_send(&self, command: C) -> Result<(), MailboxError> {
        let sent = self.sender.try_send(Message { command, reply: None });
        self.waker.wake();
        sent.map_err(|error| match error {
            TrySendError::Full(_) => MailboxError::Full,
            TrySendError::Disconnected(_) => MailboxError::Closed,
        })
    }

    /// Sends a command and waits up to `timeout` for its reply.
    pub fn call(&self, command: C, timeout: Duration) -> Result<R, MailboxError> {
        let (reply, replied) = sync_channel(1);
        self.put(Message { command, reply: Some(reply) })?;
        replied.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => MailboxError::TimedOut(timeout),
            RecvTimeoutError::Disconnected => MailboxError::Closed,
        })
    }

    /// Wakes the receiver without a command.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    fn put(&self, message: Message<C, R>) -> Result<(), MailboxError> {
        self.sender.send(message).map_err(|_| MailboxError::Closed)?;
        self.waker.wake();
        Ok(())
    }
}

/// The receiver's end.
#[derive(Debug)]
pub struct Inbox<C, R = ()> {
    receiver: Receiver<Message<C, R>>,
    waker: Waker,
}

impl<C, R> Inbox<C, R> {
    /// The next message, if there is one. The eventfd stays readable until
    /// [`Waker::clear`].
    pub fn take(&self) -> Option<Message<C, R>> {
        self.receiver.try_recv().ok()
    }

    /// The eventfd that each message makes readable.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::thread;

    use super::*;

    fn readable(waker: &Waker) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        let timeout = rustix::time::Timespec::default();
        poll(&mut [PollFd::new(waker, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    }

    #[test]
    fn a_command_wakes_the_receiver_and_gets_its_reply() {
        let (mailbox, inbox) = mailbox::<u32, u32>(4).unwrap();
        assert!(!readable(inbox.waker()));
        let caller = thread::spawn(move || mailbox.call(1, Duration::from_secs(60)));
        while !readable(inbox.waker()) {
            thread::yield_now();
        }
        inbox.waker().clear();
        let (command, reply) = inbox.take().unwrap().split();
        assert!(!readable(inbox.waker()) && inbox.take().is_none());
        reply(command + 1);
        assert_eq!(caller.join().unwrap(), Ok(2));
    }

    #[test]
    fn the_queue_is_bounded_and_its_end_is_an_error() {
        let (mailbox, inbox) = mailbox::<u32, ()>(1).unwrap();
        assert_eq!(mailbox.send(1), Ok(()));
        assert_eq!(mailbox.try_send(2), Err(MailboxError::Full));
        let timeout = Duration::from_millis(1);
        assert_eq!(inbox.take().unwrap().command, 1);
        assert_eq!(mailbox.call(3, timeout), Err(MailboxError::TimedOut(timeout)));
        drop(inbox);
        assert_eq!(mailbox.call(4, timeout), Err(MailboxError::Closed));
        assert_eq!(mailbox.try_send(5), Err(MailboxError::Closed));
    }
}
