//! An address that a UDP port of the guest talks with: a flow.

use std::net::SocketAddr;

use smoltcp::time::Instant;

use crate::env::{End, Ends, Env};
use crate::host::HostNet;
use crate::policy::{Direction, Permit};

pub struct Peer {
    pub flow: u64,
    /// Its address on the host's side; the guest may see another.
    pub remote: SocketAddr,
    pub permit: Permit,
    pub since: Instant,
    pub used: Instant,
    pub sent: u64,
    pub received: u64,
}

impl Peer {
    /// Whether the end that did not begin has sent something.
    pub fn is_answered(&self) -> bool {
        match self.permit.direction() {
            Direction::Egress => self.received > 0,
            Direction::Ingress => self.sent > 0,
        }
    }

    pub fn over<H: HostNet>(self, env: &mut Env<'_, H>, guest: SocketAddr, reason: &'static str) {
        let Self { flow, remote, permit, since, sent, received, .. } = self;
        let ends = Ends { guest, remote };
        env.witness.closed(ends, &permit, &End { flow, reason, sent, received, since }, env.now);
    }
}

/// Compares without the scope of a link-local address: it depends on the
/// interface of the host.
pub fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}
