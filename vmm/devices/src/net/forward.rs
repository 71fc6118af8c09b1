use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use sandbox_netstack::host::HostNet;
use sandbox_netstack::port::Port;
use sandbox_netstack::stack::Stack;
use smoltcp::time::Instant;

use crate::mailbox::Waker;

/// A connection to the guest's loopback, which no frame can reach: the
/// forwarder carries it over vsock.
pub struct Forward {
    /// It.
    pub stream: OwnedFd,
    /// Where in the guest.
    pub target: SocketAddr,
    /// What was carried, for the audit.
    pub meter: Arc<Meter>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Over {
    /// Both ends were done.
    Finished = 1,
    /// The guest's agent did not take it.
    Refused = 2,
    /// One end broke.
    Failed = 3,
}

impl Over {
    fn of(state: u8) -> Option<Self> {
        [Self::Finished, Self::Refused, Self::Failed].into_iter().find(|over| *over as u8 == state)
    }

    /// The reason in the audit.
    fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

const OPEN: u8 = 0;
const REVOKED: u8 = u8::MAX;

/// State that the forwarder and the stack share for a connection. In the stack
/// it is a flow like others.
#[derive(Debug)]
pub struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    state: AtomicU8,
    device: Waker,
}

impl Meter {
    /// Nothing was carried yet. `device` wakes the one that looks at it.
    pub fn new(device: Waker) -> Self {
        let zero = || AtomicU64::new(0);
        Self { sent: zero(), received: zero(), state: AtomicU8::new(OPEN), device }
    }

    /// So many bytes more went from the guest.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes more went to it.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It has ended.
    pub fn over(&self, how: Over) {
        if self.state.swap(how as u8, Ordering::AcqRel) == OPEN {
            self.device.wake();
        }
    }

    /// It may not go on.
    pub fn revoke(&self) {
        self.state.store(REVOKED, Ordering::Release);
    }

    /// It may not go on, and is to be reset.
    pub fn is_revoked(&self) -> bool {
        self.state.load(Ordering::Acquire) == REVOKED
    }
}

/// The connections that the forwarder carries.
#[derive(Default)]
pub struct Carried(Vec<(u64, Arc<Meter>)>);

impl Carried {
    /// Another one.
    pub fn add(&mut self, flow: u64, meter: Arc<Meter>) {
        self.0.push((flow, meter));
    }

    /// Reports their progress to the stack, and revokes those that the stack has
    /// ended. Returns whether one was revoked.
    pub fn tell<H: HostNet>(
        &mut self,
        stack: &mut Stack<H>,
        port: &mut dyn Port,
        now: Instant,
    ) -> bool {
        let before = self.0.len();
        let mut over = 0;
        self.0.retain(|(flow, meter)| {
            // Read first: bytes are counted before it changes.
            let ended = Over::of(meter.state.load(Ordering::Acquire));
            let (sent, received) = (&meter.sent, &meter.received);
            let (sent, received) = (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed));
            let goes_on = stack.carry(*flow, sent, received, now);
            match ended {
                Some(how) => {
                    stack.depart(port, *flow, how.word(), now);
                    over += 1;
                    false
                }
                None => {
                    if !goes_on {
                        meter.revoke();
                    }
                    goes_on
                }
            }
        });
        before > self.0.len() + over
    }

    /// The stack is gone: none may go on. Answers whether there was one.
    pub fn revoke(&mut self) -> bool {
        let any = !self.0.is_empty();
        for (_, meter) in self.0.drain(..) {
            meter.revoke();
        }
        any
    }
}
