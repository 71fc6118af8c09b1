//! What the guest listens on, mirrored in the namespace.
//!
//! The report comes from the guest's agent and may be anything: a
//! report names ports and addresses of the guest, and what is bound for it is
//! always an address that the pod has.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::env::Fixed;
use crate::host::Errno;
use crate::policy::Protocol;

/// Listeners at a time, of TCP and UDP together. Stops a report from taking
/// every port of the namespace, and every file descriptor of the process.
pub const MOST: usize = 256;

/// A listener that the guest's agent reported. A wildcard takes its own
/// family alone: a socket of the guest that takes both is two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reported {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where, in the guest.
    pub at: SocketAddr,
}

/// What is bound in the namespace for a listener of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listen {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where.
    pub at: SocketAddr,
    /// Clients are to reach the guest's loopback.
    pub loopback: bool,
}

impl Listen {
    /// What of the guest is behind it; nothing if the guest has no address of
    /// this family.
    pub fn guest(&self, fixed: &Fixed) -> Option<SocketAddr> {
        let ip = self.at.ip();
        let guest =
            if self.loopback || fixed.link.has(ip) { Some(ip) } else { fixed.link.address_for(ip) };
        guest.map(|guest| SocketAddr::new(guest, self.at.port()))
    }
}

/// Where something that the guest listens on is bound, or why it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerRow {
    /// What the guest listens on.
    pub reported: Reported,
    /// Where it is to be bound; nowhere if it is reached from nowhere.
    pub at: Option<SocketAddr>,
    /// How that went.
    pub state: ListenerState,
}

/// How a listener is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerState {
    /// It is bound.
    Bound,
    /// The host would not bind it.
    Failed(Errno),
    /// There are as many as may be.
    TooMany,
    /// UDP at the guest's loopback is not passed on.
    Loopback,
    /// The pod has no such address.
    Foreign,
}

/// What there is to bind for a report, and what came of it.
#[derive(Debug, Default)]
pub struct Plan {
    reported: Vec<Reported>,
    /// To be bound.
    pub wanted: BTreeSet<Listen>,
    /// What of it could not be bound.
    pub failed: Vec<(Listen, Errno)>,
}

impl Plan {
    /// For a guest that listens on these.
    pub fn new(reported: &[Reported], pod: &[IpAddr], fixed: &Fixed) -> Self {
        let mut wanted = BTreeSet::new();
        for reported in reported {
            wanted.extend(mirrors(*reported, pod, fixed));
            if wanted.len() >= MOST {
                break;
            }
        }
        let wanted = wanted.into_iter().take(MOST).collect();
        let reported = reported.iter().take(MOST).copied().collect();
        Self { reported, wanted, failed: Vec::new() }
    }

    /// What of it is of this protocol.
    pub fn of(&self, protocol: Protocol) -> BTreeSet<Listen> {
        self.wanted.iter().filter(|listen| listen.protocol == protocol).copied().collect()
    }

    /// What came of each that was reported.
    pub fn rows(&self, pod: &[IpAddr], fixed: &Fixed) -> Vec<ListenerRow> {
        let row = |reported: &Reported| {
            let (reported, found) = (*reported, mirrors(*reported, pod, fixed));
            if found.is_empty() {
                let own = reported.at.ip().is_loopback();
                let state = if own { ListenerState::Loopback } else { ListenerState::Foreign };
                return vec![ListenerRow { reported, at: None, state }];
            }
            let row = |listen: Listen| ListenerRow {
                reported,
                at: Some(listen.at),
                state: self.state(listen),
            };
            found.into_iter().map(row).collect()
        };
        self.reported.iter().flat_map(row).collect()
    }

    fn state(&self, listen: Listen) -> ListenerState {
        if !self.wanted.contains(&listen) {
            return ListenerState::TooMany;
        }
        let failed = self.failed.iter().find(|(failed, _)| *failed == listen);
        failed.map_or(ListenerState::Bound, |(_, error)| ListenerState::Failed(*error))
    }
}

/// Where something is bound that the guest listens on: at the pod's addresses
/// for what outside can reach, and at the loopback for what is reached by who
/// is in the namespace. Connections to the guest's loopback are led there by
/// its agent, datagrams are not.
fn mirrors(reported: Reported, pod: &[IpAddr], fixed: &Fixed) -> BTreeSet<Listen> {
    let Reported { protocol, at } = reported;
    let (ip, port) = (at.ip(), at.port());
    if port == 0 || protocol == Protocol::Icmp {
        return BTreeSet::new();
    }
    let any = ip.is_unspecified();
    let listen = |ip, loopback| Listen { protocol, at: SocketAddr::new(ip, port), loopback };
    let family = |other: &&IpAddr| other.is_ipv4() == ip.is_ipv4();
    let mut found = BTreeSet::new();
    if any || fixed.link.has(ip) {
        let outside = pod.iter().filter(family).map(|own| listen(*own, false));
        // A datagram is for the address that it was sent to.
        let reached = |listen: &Listen| {
            any || protocol == Protocol::Tcp || listen.guest(fixed).is_some_and(|at| at.ip() == ip)
        };
        found.extend(outside.filter(reached));
    }
    if protocol == Protocol::Tcp && (any || ip.is_loopback()) {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        found.extend(loopback.iter().filter(family).map(|ip| listen(*ip, true)));
    }
    found
}
