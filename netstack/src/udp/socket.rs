//! A UDP port of the guest: its socket on the host, and the peers it talks with.

use std::collections::HashMap;
use std::net::SocketAddr;

use smoltcp::time::{Duration, Instant};

use super::peer::{Peer, is_same};
use crate::emit::{UDP, ip_header, write_udp};
use crate::env::{Env, unreachable};
use crate::host::{Datagrams, Errno, HostNet, Notice, Origin};
use crate::icmp;

/// Most peers of a port of the guest's clients, and of one that serves. Each
/// holds memory: stops a guest from taking all of it.
const PEERS: usize = 256;
const CLIENTS: usize = 1_024;

/// Idle timeout of a port that got no answer, of one that got some (RFC 4787,
/// REQ-5), and of one that only asked DNS servers and got them (REQ-5 b).
const UNANSWERED: Duration = Duration::from_secs(120);
const ANSWERED: Duration = Duration::from_secs(180);
pub const RESOLVED: Duration = Duration::from_secs(10);

/// Port of DNS.
pub const DNS: u16 = 53;

pub struct Socket<D> {
    pub guest: SocketAddr,
    pub serial: u32,
    pub datagrams: D,
    /// The address at which a port that the guest listens on is bound. None for
    /// a port that the guest only sends from: that one is closed when idle.
    pub serves: Option<SocketAddr>,
    /// By the address that the guest sees.
    pub peers: HashMap<SocketAddr, Peer>,
    pub used: Instant,
    pub queued: bool,
}

impl<D: Datagrams> Socket<D> {
    /// Whether any peer was written to from both sides.
    pub fn is_answered(&self) -> bool {
        self.peers.values().any(Peer::is_answered)
    }

    /// Its idle timeout.
    pub fn life(&self) -> Duration {
        if !self.is_answered() {
            UNANSWERED
        } else if self.peers.iter().all(|(to, peer)| to.port() == DNS && peer.is_answered()) {
            RESOLVED
        } else {
            ANSWERED
        }
    }

    /// Ends the flow of the peer idle longest, if there are too many.
    pub fn make_room<H: HostNet>(&mut self, env: &mut Env<'_, H>) {
        let most = if self.serves.is_some() { CLIENTS } else { PEERS };
        if self.peers.len() < most {
            return;
        }
        let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.used).map(|(to, _)| *to);
        if let Some(remote) = oldest
            && let Some(peer) = self.peers.remove(&remote)
        {
            peer.over(env, self.guest, "evicted");
        }
    }

    /// Sends the guest the ICMP error that the host's socket got for a datagram
    /// to one of the peers.
    pub fn tell<H: HostNet>(&self, env: &mut Env<'_, H>, notice: &Notice) {
        let seen = env.fixed.seen(notice.to);
        let Some(peer) = self.peers.get(&seen) else { return };
        if !is_same(peer.remote, notice.to) {
            return;
        }
        env.outbox.tap.about(peer.flow);
        let error = match notice.origin {
            Origin::Icmp(kind, code) => match notice.errno {
                Errno::MSGSIZE => icmp::Error::TooBig(notice.mtu),
                _ => icmp::Error::Raw(kind, code, [0; 4]),
            },
            Origin::Local => match (notice.errno, unreachable(notice.errno)) {
                (Errno::MSGSIZE, _) => icmp::Error::TooBig(notice.mtu),
                (_, Some(error)) => error,
                (_, None) => return,
            },
        };
        let guest = self.guest.ip();
        let mut quote = vec![0; ip_header(guest) + UDP];
        write_udp(&mut quote, self.guest, seen);
        let from = notice.from.unwrap_or(env.fixed.gateway(guest));
        env.error(error, &quote, guest, from);
    }

    /// Ends the idle flows; returns when the next may be idle.
    pub fn expire<H: HostNet>(&mut self, env: &mut Env<'_, H>) -> Option<Instant> {
        let now = env.now;
        let life = |peer: &Peer| if peer.is_answered() { ANSWERED } else { UNANSWERED };
        let until = |peer: &Peer| peer.used + life(peer);
        let idle = self.peers.extract_if(|_, peer| until(peer) <= now);
        for (_, peer) in idle.collect::<Vec<_>>() {
            peer.over(env, self.guest, "idle");
        }
        self.peers.values().map(until).min()
    }
}
