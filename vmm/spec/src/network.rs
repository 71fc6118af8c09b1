//! The network of a pod: what its `io` process is started with, and what the
//! shim and `sandboxctl` ask of it while it runs.
//!
//! The process listens on the Unix socket [`NetworkLaunch::listener`]. A client
//! sends a [`Request`] and reads [`Reply`]s; each is a frame of 4 bytes with
//! the length, most significant first, and that many bytes of JSON. A
//! connection carries one request after the other. [`Request::Capture`] is
//! answered with frames until the client hangs up; every other one with one.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fd::Fd;

/// Longest request: two policies of the longest text that is read, and room.
pub const MAX_REQUEST: usize = 24 << 20;
/// Longest reply that a client takes: the process that sends it may have been
/// taken over by its guest.
pub const MAX_REPLY: usize = 16 << 20;
/// Most listeners in a report; the guest's own may be more.
pub const MAX_LISTENERS: usize = 256;

/// MAC address of the host's end of every guest's link.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// The network part of [`IoLaunch`](crate::launch::IoLaunch).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkLaunch {
    /// Network namespace in which the host's sockets are opened: the process
    /// enters it.
    pub namespace: Fd,
    /// Another in which they may be opened instead; see [`Network::outside`].
    pub outside: Option<Fd>,
    /// Listening Unix socket for [`Request`]s.
    pub listener: Fd,
    /// Two files, open for appending, for the audit: when one has `audit_max`
    /// bytes the other is emptied and written.
    pub audit: [Fd; 2],
    /// See `audit`.
    pub audit_max: u64,
    /// The pod's name in the audit.
    pub pod: String,
    /// The guest's end of the link.
    pub link: LinkSpec,
    /// Port of the guest on which its agent takes connections to the guest's
    /// loopback.
    pub forward_port: u32,
}

/// What the driver reads of the device before the network is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// The guest's MAC address.
    pub mac: [u8; 6],
    /// Largest MTU in bytes that the guest may set.
    pub mtu: u16,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Returns [`Reply::Done`] once the process is in the pod's namespace.
    Ping,
    /// The pod's addresses and policy. Until then no frame passes. Again with
    /// other addresses, everything that is open ends.
    Configure(Box<Network>),
    /// Replaces the listeners that the guest's agent reports.
    Listeners {
        /// All of them, in the guest.
        listeners: Vec<Listener>,
    },
    /// Returns where the guest's listeners are bound.
    Listening,
    /// Puts other policies in force for new flows.
    SetPolicy {
        /// The node's.
        node: PolicySource,
        /// The pod's.
        pod: PolicySource,
        /// Ends open flows that the new policies do not allow.
        recheck: bool,
    },
    /// Returns the policies in force.
    Policy,
    /// Returns the open flows.
    Flows,
    /// Returns the counters.
    Counters,
    /// Returns the names that pinned DNS servers resolved.
    Names,
    /// Explains the verdict on a flow to a destination.
    Explain {
        /// `tcp`, `udp` or `icmp`.
        protocol: String,
        /// `name:port`, `192.0.2.1:443` or `[2001:db8::1]:443`.
        destination: String,
        /// The address that the name leads to, if not where it led.
        at: Option<IpAddr>,
    },
    /// Returns the frames of the link, as pcapng.
    Capture {
        /// Bytes kept of each frame.
        snap: u32,
    },
}

/// A listener of the guest. A wildcard takes its own family alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its protocol.
    pub transport: Transport,
    /// Where, in the guest.
    pub at: SocketAddr,
}

impl Listener {
    /// One of TCP.
    pub fn tcp(at: SocketAddr) -> Self {
        Self { transport: Transport::Tcp, at }
    }

    /// One of UDP.
    pub fn udp(at: SocketAddr) -> Self {
        Self { transport: Transport::Udp, at }
    }
}

/// What listeners speak. TCP comes first where some must be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A pod's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The guest's addresses: no frame with another source passes.
    pub guest: Vec<IpAddr>,
    /// Addresses of the namespace at which the guest's listeners are bound.
    pub bound: Vec<IpAddr>,
    /// The host's sockets are opened in the launch's
    /// [`outside`](NetworkLaunch::outside). Said once: it stays what it was the
    /// first time.
    pub outside: bool,
    /// MTU of the pod's interface.
    pub mtu: u16,
    /// The gateway's address in the guest: the source of ICMP errors, and of
    /// clients whose address means something else in the guest.
    pub gateway4: Ipv4Addr,
    /// The same for IPv6.
    pub gateway6: Ipv6Addr,
    /// DNS servers that the pod was given.
    pub resolvers: Vec<IpAddr>,
    /// Addresses of the node.
    pub host: Vec<IpAddr>,
    /// Networks of the cluster, as CIDRs.
    pub cluster: Vec<String>,
    /// The node's policy.
    pub node: PolicySource,
    /// The pod's.
    pub pod: PolicySource,
}

/// Where a tier of the policy comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicySource {
    /// There is none: the tier leaves everything to the next.
    Unset,
    /// The text of the file, TOML or JSON.
    Text(String),
    /// It cannot be read, for this reason: the tier allows nothing.
    Broken(String),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The request was done.
    Done,
    /// The request failed.
    Failed {
        /// What happened, to what, and what to do.
        error: String,
    },
    /// To [`Request::Listeners`].
    Listening {
        /// What could not be bound in the namespace, and where, with the reason.
        failed: Vec<(Transport, SocketAddr, String)>,
    },
    /// To [`Request::Listening`].
    Listeners {
        /// One for each address that is to be bound, and for what has none.
        listeners: Vec<ListenerRow>,
    },
    /// To [`Request::SetPolicy`].
    PolicySet {
        /// Number of the policies now in force.
        generation: u64,
        /// Flows that were ended.
        ended: u64,
    },
    /// To [`Request::Policy`].
    Policy {
        /// Number of the policies in force.
        generation: u64,
        /// The node's.
        node: PolicySource,
        /// The pod's.
        pod: PolicySource,
    },
    /// To [`Request::Flows`].
    Flows {
        /// The oldest first.
        flows: Vec<FlowRow>,
    },
    /// To [`Request::Counters`].
    Counters {
        /// Name and number, in the order of their names.
        counters: Vec<(String, u64)>,
    },
    /// To [`Request::Names`].
    Names {
        /// In the order of the addresses.
        names: Vec<NameRow>,
    },
    /// To [`Request::Explain`].
    Explained {
        /// Number of the policies in force.
        generation: u64,
        /// For each address that the destination may be; at least one.
        outlook: Vec<OutlookRow>,
    },
    /// To [`Request::Capture`], again and again.
    Captured {
        /// Bytes of a pcapng file, in base64.
        pcapng: String,
        /// Frames lost since the last reply because the client was slow.
        lost: u64,
    },
}

/// An open flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// As in the audit.
    pub id: u64,
    /// `egress` or `ingress`.
    pub dir: String,
    /// `tcp`, `udp` or `icmp`.
    pub proto: String,
    /// The guest's end.
    pub guest: SocketAddr,
    /// The other.
    pub remote: SocketAddr,
    /// `dialing`, `open`, or what the protocol calls it.
    pub state: String,
    /// What allowed it: a rule's id, or a reason without a rule.
    pub rule: String,
    /// `system`, `node` or `pod`.
    pub tier: String,
    /// Names by which the guest knows the other end.
    pub names: Vec<String>,
    /// Bytes from the guest.
    pub sent: u64,
    /// Bytes to it.
    pub received: u64,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Milliseconds since something was carried.
    pub idle_ms: u64,
}

/// Where something is bound that the guest listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerRow {
    /// `tcp` or `udp`.
    pub proto: String,
    /// Where, in the guest.
    pub guest: SocketAddr,
    /// Where in the pod's namespace; none if it is not to be bound.
    pub at: Option<SocketAddr>,
    /// Why it is not bound; none if it is.
    pub error: Option<String>,
}

/// A name that leads to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// Where it leads.
    pub address: IpAddr,
    /// What was asked.
    pub name: String,
    /// Aliases on the way.
    pub aliases: Vec<String>,
    /// Seconds until it is forgotten, if no flow uses it.
    pub seconds: u64,
}

/// What would become of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlookRow {
    /// The address that it would go to; none of a name that leads to none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Names by which the guest knows it.
    pub names: Vec<String>,
    /// `allowed`, `denied`, or `depends` on the address.
    pub answer: String,
    /// `system`, `node` or `pod`.
    pub tier: String,
    /// The rule's id, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why, as in the audit.
    pub reason: String,
    /// The same in a sentence or two.
    pub text: String,
}

/// Writes one frame.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(io::Error::other)?;
    let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    to.write_all(&frame)
}

/// Reads one frame of at most `most` bytes; none at the end of the stream.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read, most: usize) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    if from.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        let reason = format!("a message of {length} bytes, at most {most} are taken");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut frame = Vec::new();
    // Grows with the bytes that come, not with the announced length.
    from.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&frame).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
