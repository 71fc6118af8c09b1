//! What the protocols share for the length of a turn.

use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::Interface;
use smoltcp::time::Instant;

use crate::counters::Counters;
use crate::dns::{Blocked, Channel, FromGuest, FromServer};
pub use crate::ends::Ends;
use crate::gate::Link;
use crate::host::{Errno, HostNet};
use crate::icmp;
use crate::listing::NameRow;
use crate::outbox::Outbox;
use crate::policy::{
    Denial, DenyMode, Direction, EMBEDDED_RESOLVER, Flow, Ground, Names, Permit, Policy, Protocol,
    Verdict,
};
use crate::port::{Capabilities, Port};

/// Receives verdicts and flows, and knows the names of addresses.
///
/// The audit and the DNS observer are behind it; `()` knows nothing.
pub trait Witness {
    /// The names by which the guest may know this address.
    fn names(&mut self, _address: IpAddr, _now: Instant) -> Names {
        Names::default()
    }

    /// A flow was allowed and is being opened; this is its number.
    fn opened(&mut self, _flow: u64, _ends: Ends, _permit: &Permit, _now: Instant) {}

    /// A flow was refused; it has a number if it lived until then.
    fn denied(&mut self, _flow: Option<u64>, _ends: Ends, _denial: &Denial, _now: Instant) {}

    /// A flow is over.
    fn closed(&mut self, _ends: Ends, _permit: &Permit, _end: &End, _now: Instant) {}

    /// What becomes of a message to a pinned DNS server.
    fn query(
        &mut self,
        _policy: &Policy,
        _channel: Channel,
        _server: SocketAddr,
        _message: &[u8],
        _now: Instant,
    ) -> FromGuest {
        FromGuest::Forward
    }

    /// What becomes of a message of one.
    fn answer(
        &mut self,
        _policy: &Policy,
        _channel: Channel,
        _server: SocketAddr,
        _message: &[u8],
        _now: Instant,
    ) -> FromServer {
        FromServer::Deliver
    }

    /// A query was answered in the server's stead.
    fn blocked(&mut self, _ends: Ends, _over: Protocol, _blocked: &Blocked, _now: Instant) {}

    /// The channel is closed.
    fn forget(&mut self, _channel: Channel) {}

    /// Every name that leads to an address.
    fn learnt(&self, _now: Instant) -> Vec<NameRow> {
        Vec::new()
    }

    /// What it counted, with its name.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// A second has passed.
    fn tick(&mut self, _now: Instant) {}
}

impl Witness for () {}

/// How a flow ended, and what it carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Its number.
    pub flow: u64,
    /// Why, in a word.
    pub reason: &'static str,
    /// Bytes from the guest.
    pub sent: u64,
    /// Bytes to it.
    pub received: u64,
    /// When it began.
    pub since: Instant,
}

/// What does not change while the stack lives.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The guest's end of the link.
    pub link: Link,
    /// Our own addresses: who ICMP errors come from, and who a client seems to
    /// be whose own address means something else in the guest.
    pub gateway4: IpAddr,
    /// The same for IPv6.
    pub gateway6: IpAddr,
    /// Bytes of the largest packet of the link.
    pub mtu: u16,
    /// What the guest's driver takes.
    pub capabilities: Capabilities,
}

impl Fixed {
    /// Our address of the family of `peer`.
    pub fn gateway(&self, peer: IpAddr) -> IpAddr {
        if peer.is_ipv4() { self.gateway4 } else { self.gateway6 }
    }

    /// The address of a client that the guest sees: the client's, unless that means
    /// something else in the guest.
    pub fn seen(&self, peer: SocketAddr) -> SocketAddr {
        let ip = peer.ip();
        let on_loopback = ip.is_loopback() && ip != EMBEDDED_RESOLVER;
        let own = self.link.has(ip) || on_loopback || ip.is_unspecified();
        SocketAddr::new(if own { self.gateway(ip) } else { ip }, peer.port())
    }
}

/// What the protocols share for the length of a turn.
pub struct Env<'a, H: HostNet> {
    /// The host's side.
    pub host: &'a mut H,
    /// smoltcp's interface.
    pub interface: &'a mut Interface,
    /// The link.
    pub port: &'a mut dyn Port,
    /// Its sending side.
    pub outbox: &'a mut Outbox,
    /// The policy in force.
    pub policy: &'a Policy,
    /// Receives verdicts.
    pub witness: &'a mut dyn Witness,
    /// The number of the flow that was opened last.
    pub flow: &'a mut u64,
    /// What is counted.
    pub counters: &'a mut Counters,
    /// What does not change.
    pub fixed: &'a Fixed,
    /// Memory for a datagram, with room for headers before it.
    pub scratch: &'a mut [u8],
    /// The time.
    pub now: Instant,
}

impl<H: HostNet> Env<'_, H> {
    /// Asks the policy, and reports a refusal to the witness.
    pub fn decide(
        &mut self,
        direction: Direction,
        protocol: Protocol,
        ends: Ends,
    ) -> Result<Permit, DenyMode> {
        let peer = ends.remote.ip();
        let port = match (protocol, direction) {
            (Protocol::Icmp, _) => 0,
            (_, Direction::Egress) => ends.remote.port(),
            (_, Direction::Ingress) => ends.guest.port(),
        };
        let names = self.witness.names(peer, self.now);
        match self.policy.decide(&Flow { direction, protocol, peer, port }, &names) {
            Verdict::Allow(permit) => Ok(permit),
            Verdict::Deny(denial) => {
                self.counters.denied += 1;
                self.outbox.tap.say(|| described("deny", &denial.ground));
                self.witness.denied(None, ends, &denial, self.now);
                Err(denial.mode)
            }
        }
    }

    /// A flow with this permit begins; answers its number.
    pub fn begin(&mut self, ends: Ends, permit: &Permit) -> u64 {
        *self.flow += 1;
        self.counters.opened += 1;
        self.witness.opened(*self.flow, ends, permit, self.now);
        self.outbox.tap.about(*self.flow);
        self.outbox.tap.say(|| described("allow", permit.ground()));
        *self.flow
    }

    /// A flow with this permit was to begin, and the host has no socket for it:
    /// it has an end at once, so that no verdict is without its lines.
    pub fn fail(&mut self, ends: Ends, permit: &Permit) {
        let flow = self.begin(ends, permit);
        self.counters.sockets_failed += 1;
        let end = End { flow, reason: "failed", sent: 0, received: 0, since: self.now };
        self.witness.closed(ends, permit, &end, self.now);
    }

    /// Whether the policy in force allows an open flow; reports a refusal to the
    /// witness.
    pub fn may_go_on(&mut self, flow: u64, ends: Ends, permit: &Permit) -> bool {
        match self.policy.recheck(permit) {
            Verdict::Allow(_) => true,
            Verdict::Deny(denial) => {
                self.witness.denied(Some(flow), ends, &denial, self.now);
                false
            }
        }
    }

    /// Tells the guest of an error with what it sent.
    pub fn error(&mut self, error: icmp::Error, packet: &[u8], guest: IpAddr, from: IpAddr) {
        let from = if from.is_ipv4() == guest.is_ipv4() { from } else { self.fixed.gateway(guest) };
        let bytes = icmp::error(from, guest, error, packet);
        self.outbox.whole(self.port, &bytes);
    }
}

/// A verdict, in a few words.
fn described(verdict: &str, ground: &Ground) -> String {
    match &ground.rule {
        Some(rule) => format!("{verdict} by {rule} ({}, {})", ground.tier, ground.reason),
        None => format!("{verdict} ({}, {})", ground.tier, ground.reason),
    }
}

/// What an error of the host's kernel is in ICMP.
pub fn unreachable(errno: Errno) -> Option<icmp::Error> {
    match errno {
        Errno::HOSTUNREACH | Errno::HOSTDOWN => Some(icmp::Error::Host),
        Errno::NETUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => {
            Some(icmp::Error::Network)
        }
        Errno::ACCESS | Errno::PERM => Some(icmp::Error::Prohibited),
        _ => None,
    }
}
