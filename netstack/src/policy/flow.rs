use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Name;

/// Which end began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The guest.
    Egress,
    /// Somebody outside of it.
    Ingress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        })
    }
}

/// What is spoken above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Echo of ICMP and ICMPv6; it has no port.
    Icmp,
}

impl Protocol {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Tcp, Self::Udp, Self::Icmp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        })
    }
}

/// What is asked about: the first packet of a connection, the first datagram
/// to or from a peer, the first echo of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Which end began.
    pub direction: Direction,
    /// What is spoken.
    pub protocol: Protocol,
    /// The other end, as it stands in the packet.
    pub peer: IpAddr,
    /// The port that is dialled: the peer's on the way out, the guest's on the
    /// way in; 0 for ICMP.
    pub port: u16,
}

/// A name that was asked and led to an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Known {
    /// What the guest asked for. Allowing rules look at it alone.
    pub asked: Name,
    /// The names that it is an alias of, in order. Denying rules look at them
    /// too.
    pub chain: Arc<[Name]>,
}

impl Known {
    /// A name that was asked and is no alias.
    pub fn plain(asked: Name) -> Self {
        Self { asked, chain: Arc::new([]) }
    }
}

/// The names by which the pod may know an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Those that live.
    pub live: Arc<[Known]>,
    /// Whether there were others, whose time has passed.
    pub has_expired: bool,
}
