//! The witness of production: the audit, and the observer of DNS that learns
//! names for the policy.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::time::Instant;

use crate::audit::{self, Audit, Now, Traffic};
use crate::dns::{Blocked, Channel, FromGuest, FromServer, Observer};
use crate::env::{End, Ends, Witness};
use crate::listing::NameRow;
use crate::policy::{Denial, Direction, Names, Permit, Policy, Protocol};

/// Writes the audit. The stack's thread calls it: it must not block.
pub trait Sink: Send {
    /// Takes whole lines.
    fn write(&mut self, lines: &[u8]);

    /// Lines that were lost since the sink was made.
    fn lost(&self) -> u64 {
        0
    }
}

impl<F: FnMut(&[u8]) + Send> Sink for F {
    fn write(&mut self, lines: &[u8]) {
        self(lines);
    }
}

/// Audit and names of one pod.
pub struct Watch {
    audit: Audit,
    observer: Observer,
    /// What the clock on the wall shows when the stack's shows zero.
    epoch: Duration,
    sink: Box<dyn Sink>,
}

impl Watch {
    /// `pod` is its name in the audit, `epoch` the time since 1970 at the
    /// stack's zero.
    pub fn new(pod: &str, epoch: Duration, sink: Box<dyn Sink>) -> Self {
        Self { audit: Audit::new(pod), observer: Observer::new(), epoch, sink }
    }

    fn now(&self, now: Instant) -> Now {
        let monotonic = since_start(now);
        Now { monotonic, wall: self.epoch + monotonic }
    }

    fn write(&mut self) {
        let lines = self.audit.take();
        if !lines.is_empty() {
            self.sink.write(&lines);
        }
    }
}

fn since_start(now: Instant) -> Duration {
    Duration::from_micros(u64::try_from(now.total_micros()).unwrap_or(0))
}

/// The end that began comes first in the audit.
fn ordered(ends: Ends, direction: Direction) -> audit::Ends {
    match direction {
        Direction::Egress => audit::Ends { from: ends.guest, to: ends.remote },
        Direction::Ingress => audit::Ends { from: ends.remote, to: ends.guest },
    }
}

impl Witness for Watch {
    fn names(&mut self, address: IpAddr, now: Instant) -> Names {
        self.observer.names(address, since_start(now))
    }

    fn opened(&mut self, flow: u64, ends: Ends, permit: &Permit, now: Instant) {
        self.observer.hold(permit.peer());
        let at = self.now(now);
        self.audit.opened(at, flow, ordered(ends, permit.direction()), permit);
        self.write();
    }

    fn denied(&mut self, flow: Option<u64>, ends: Ends, denial: &Denial, now: Instant) {
        let at = self.now(now);
        self.audit.denied(at, flow, ordered(ends, denial.flow.direction), denial);
        self.write();
    }

    fn closed(&mut self, ends: Ends, permit: &Permit, end: &End, now: Instant) {
        self.observer.release(permit.peer());
        let traffic = Traffic { bytes_in: end.received, bytes_out: end.sent };
        let (at, ends) = (self.now(now), ordered(ends, permit.direction()));
        self.audit.closed(at, end.flow, ends, permit, traffic, end.reason);
        self.write();
    }

    fn query(
        &mut self,
        policy: &Policy,
        channel: Channel,
        server: SocketAddr,
        message: &[u8],
        now: Instant,
    ) -> FromGuest {
        self.observer.from_guest(policy, channel, server, message, since_start(now))
    }

    fn answer(
        &mut self,
        policy: &Policy,
        channel: Channel,
        server: SocketAddr,
        message: &[u8],
        now: Instant,
    ) -> FromServer {
        self.observer.from_server(policy, channel, server, message, since_start(now))
    }

    fn blocked(&mut self, ends: Ends, over: Protocol, blocked: &Blocked, now: Instant) {
        let at = self.now(now);
        self.audit.blocked(at, ordered(ends, Direction::Egress), over, blocked);
        self.write();
    }

    fn forget(&mut self, channel: Channel) {
        self.observer.close(channel);
    }

    fn learnt(&self, now: Instant) -> Vec<NameRow> {
        let now = since_start(now);
        let rows = self.observer.bindings().iter().map(|(address, known, expiry)| {
            let seconds = expiry.saturating_sub(now).as_secs();
            NameRow { address, known: known.clone(), seconds }
        });
        rows.collect()
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let (dns, audit) = (self.observer.counters(), self.audit.counters());
        vec![
            ("audit.allowed", audit.allowed),
            ("audit.blocked", audit.blocked),
            ("audit.denied", audit.denied),
            ("audit.limited", audit.limited),
            ("audit.lines", audit.lines),
            ("audit.lost", audit.lost),
            ("dns.bad-answers", dns.bad_answers),
            ("dns.bad-queries", dns.bad_queries),
            ("dns.blocked", dns.blocked),
            ("dns.crowded", dns.crowded),
            ("dns.forwarded", dns.forwarded),
            ("dns.learnt", dns.learnt),
            ("dns.stripped", dns.stripped),
            ("dns.truncated", dns.truncated),
            ("dns.unlearnt", dns.unlearnt),
        ]
    }

    fn tick(&mut self, now: Instant) {
        let at = self.now(now);
        self.audit.tick(at);
        self.audit.lost(at, self.sink.lost());
        self.write();
    }
}
