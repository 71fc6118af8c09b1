//! UDP: each port of the guest is a port of the host.
//!
//! One socket serves a port of the guest whomever it writes to, so that
//! mappings do not depend on the destination (RFC 4787, REQ-1). Two kinds of peer
//! may write back: those to which the policy allowed the guest to write, and
//! those that the policy allows in. A port that the guest
//! [serves](Udp::serve) is bound before it has written to anybody.

mod peer;
mod serve;
mod socket;

use std::collections::HashMap;
use std::net::SocketAddr;

use slab::Slab;
use smoltcp::time::Instant;
use smoltcp::wire::IpProtocol;

use crate::checksum;
use crate::deadlines::Deadlines;
use crate::dns::{Channel, FromGuest, FromServer};
use crate::emit::{UDP, ip_header, write_udp};
use crate::env::{Ends, Env, unreachable};
use crate::host::{Datagrams, Errno, HostNet, Origin, Owner, Ready, Token};
use crate::icmp;
use crate::listing::{FlowRow, Progress};
use crate::packet::Packet;
use crate::policy::{DenyMode, Direction, Permit, Protocol};
use peer::{Peer, is_same};
use socket::{DNS, RESOLVED, Socket};

/// Ports of the guest at a time; of those without an answer, and then of
/// all, the one that was used longest ago makes room.
/// Stops a guest from taking every file descriptor of the process.
pub const SOCKETS: usize = 1_024;

/// Datagrams received of one socket in a turn.
const TURN: usize = 64;

/// Room for headers before a datagram.
const HEADERS: usize = 48;

/// Memory for a datagram of the largest size, behind its headers: a shorter
/// one would cut it.
pub const ROOM: usize = HEADERS + 65_535;

/// All ports.
pub struct Udp<H: HostNet> {
    sockets: Slab<Socket<H::Datagrams>>,
    index: HashMap<SocketAddr, usize>,
    deadlines: Deadlines<usize>,
    queue: Vec<usize>,
    serial: u32,
}

impl<H: HostNet> Default for Udp<H> {
    fn default() -> Self {
        Self {
            sockets: Slab::new(),
            index: HashMap::new(),
            deadlines: Deadlines::default(),
            queue: Vec::new(),
            serial: 0,
        }
    }
}

fn token(index: usize, serial: u32) -> Token {
    Token::new(Owner::Udp, index, serial)
}

impl<H: HostNet> Udp<H> {
    /// How many ports there are.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Takes a packet of the guest; with `sealed` its checksum is to be right.
    pub fn take(&mut self, env: &mut Env<'_, H>, packet: &Packet, ip: &[u8], sealed: bool) {
        let Some((from, to, payload)) = parse(packet, ip, sealed) else {
            return env.counters.refuse("UDP header or checksum");
        };
        let ends = self.answering(
            env,
            Ends {
                guest: SocketAddr::new(packet.source, from),
                remote: SocketAddr::new(packet.destination, to),
            },
        );
        let ip = ip.get(..packet.length).unwrap_or(ip);
        match self.allowed(env, ends, ends.remote, Direction::Egress) {
            Ok(index) if self.may_ask(env, index, ends, payload) => {
                self.send(env, index, ends, packet, ip, payload);
            }
            Ok(_) => {}
            Err(Refused::Policy(DenyMode::Reject)) if packet.is_to_one() => {
                let from = env.fixed.gateway(packet.source);
                env.error(icmp::Error::Prohibited, ip, packet.source, from);
            }
            Err(_) => {}
        }
    }

    /// Whether a message to a pinned DNS server may go there; if not, the
    /// guest has its answer already.
    fn may_ask(&mut self, env: &mut Env<'_, H>, index: usize, ends: Ends, payload: &[u8]) -> bool {
        if !is_pinned(env, ends.remote) {
            return true;
        }
        let Some(channel) = self.channel(index) else { return false };
        let policy = env.policy;
        match env.witness.query(policy, channel, ends.remote, payload, env.now) {
            FromGuest::Forward => true,
            FromGuest::Drop => false,
            FromGuest::Block(blocked) => {
                env.witness.blocked(ends, Protocol::Udp, &blocked, env.now);
                env.outbox.tap.say(|| format!("blocked: {}", blocked.name));
                self.hand_over(env, ends, &blocked.answer);
                false
            }
        }
    }

    /// The number under which a port's questions are known.
    fn channel(&self, index: usize) -> Option<Channel> {
        self.sockets.get(index).map(|socket| Channel(token(index, socket.serial).0))
    }

    /// The socket for the guest's port, with the peer among its own: `remote`,
    /// if it is new.
    fn allowed(
        &mut self,
        env: &mut Env<'_, H>,
        ends: Ends,
        remote: SocketAddr,
        direction: Direction,
    ) -> Result<usize, Refused> {
        let known = self.index.get(&ends.guest).copied();
        if let Some(index) = known
            && let Some(socket) = self.sockets.get_mut(index)
            && let Some(peer) = socket.peers.get_mut(&ends.remote)
        {
            if direction == Direction::Ingress && !is_same(peer.remote, remote) {
                return Err(Refused::Taken);
            }
            (socket.used, peer.used) = (env.now, env.now);
            env.outbox.tap.about(peer.flow);
            return Ok(index);
        }
        let seen = ends.remote;
        let ends = Ends { remote, ..ends };
        let permit = env.decide(direction, Protocol::Udp, ends).map_err(Refused::Policy)?;
        let now = env.now;
        let index = match known {
            Some(index) => index,
            None => self.open(env, ends, &permit)?,
        };
        let socket = self.sockets.get_mut(index).ok_or(Refused::Host)?;
        socket.make_room(env);
        let flow = env.begin(ends, &permit);
        let peer = Peer { flow, remote, permit, since: now, used: now, sent: 0, received: 0 };
        socket.peers.insert(seen, peer);
        socket.used = now;
        self.deadlines.set(index, now + RESOLVED);
        Ok(index)
    }

    fn open(
        &mut self,
        env: &mut Env<'_, H>,
        ends: Ends,
        permit: &Permit,
    ) -> Result<usize, Refused> {
        let guest = ends.guest;
        let opened = self.insert(env, guest, None, |host, token| {
            host.datagrams(permit, guest.is_ipv4(), guest.port(), token)
        });
        opened.map_err(|_| {
            env.fail(ends, permit);
            Refused::Host
        })
    }

    /// Opens a socket for a port of the guest that has none.
    fn insert(
        &mut self,
        env: &mut Env<'_, H>,
        guest: SocketAddr,
        serves: Option<SocketAddr>,
        open: impl FnOnce(&mut H, Token) -> Result<H::Datagrams, Errno>,
    ) -> Result<usize, Errno> {
        if self.sockets.len() >= SOCKETS {
            // Those that serve have a bound of their own, far below.
            let others = self.sockets.iter().filter(|(_, socket)| socket.serves.is_none());
            let worth = |socket: &Socket<_>| (socket.is_answered(), socket.used);
            if let Some((index, _)) = others.min_by_key(|(_, socket)| worth(socket)) {
                self.close(env, index, "evicted");
            }
        }
        self.serial = self.serial.wrapping_add(1) & 0xff_ffff;
        let (index, serial) = (self.sockets.vacant_key(), self.serial);
        let datagrams = open(env.host, token(index, serial))?;
        self.sockets.insert(Socket {
            guest,
            serial,
            datagrams,
            serves,
            peers: HashMap::new(),
            used: env.now,
            queued: false,
        });
        self.index.insert(guest, index);
        Ok(index)
    }

    fn send(
        &mut self,
        env: &mut Env<'_, H>,
        index: usize,
        ends: Ends,
        packet: &Packet,
        ip: &[u8],
        payload: &[u8],
    ) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        let Some(remote) = socket.peers.get(&ends.remote).map(|peer| peer.remote) else { return };
        let mut result = socket.datagrams.send(remote, payload, packet.whole);
        let mut mtu = None;
        if result.is_err() {
            // It may be about something that was sent before: that is in the
            // queue of notices, and reported from there.
            while let Some(notice) = socket.datagrams.notice() {
                if notice.origin == Origin::Local && notice.errno == Errno::MSGSIZE {
                    mtu = Some(notice.mtu);
                } else {
                    socket.tell(env, &notice);
                }
            }
            if result != Err(Errno::MSGSIZE) {
                result = socket.datagrams.send(remote, payload, packet.whole);
            }
        }
        let told = match result {
            Ok(()) => {
                if let Some(peer) = socket.peers.get_mut(&ends.remote) {
                    peer.sent += u64::try_from(payload.len()).unwrap_or(0);
                }
                None
            }
            Err(Errno::MSGSIZE) => {
                Some(icmp::Error::TooBig(mtu.unwrap_or(u32::from(env.fixed.mtu))))
            }
            Err(error) => unreachable(error),
        };
        if let Some(error) = told {
            env.error(error, ip, packet.source, env.fixed.gateway(packet.source));
        }
    }

    /// Something happened at a socket.
    pub fn ready(&mut self, env: &mut Env<'_, H>, ready: Ready) {
        let index = ready.token.slot();
        let Some(socket) = self.sockets.get_mut(index) else { return };
        if token(index, socket.serial) != ready.token {
            return;
        }
        if ready.failed {
            while let Some(notice) = socket.datagrams.notice() {
                socket.tell(env, &notice);
            }
        }
        if !std::mem::replace(&mut socket.queued, true) {
            self.queue.push(index);
        }
    }

    /// Receives what came, within bounds; whether there is more.
    pub fn run(&mut self, env: &mut Env<'_, H>) -> bool {
        self.expire(env);
        for index in std::mem::take(&mut self.queue) {
            let more = self.receive(env, index);
            if let Some(socket) = self.sockets.get_mut(index) {
                socket.queued = more;
                if more {
                    self.queue.push(index);
                }
            }
        }
        !self.queue.is_empty()
    }

    fn receive(&mut self, env: &mut Env<'_, H>, index: usize) -> bool {
        for _ in 0..TURN {
            let Some(socket) = self.sockets.get_mut(index) else { return false };
            let Some(buffer) = env.scratch.get_mut(HEADERS..) else { return false };
            let (length, from) = match socket.datagrams.receive(buffer) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => continue,
                // An error that was reported, taken from the socket by this.
                Err(_) => continue,
            };
            self.deliver(env, index, from, length);
        }
        true
    }

    fn deliver(&mut self, env: &mut Env<'_, H>, index: usize, from: SocketAddr, length: usize) {
        let Some(guest) = self.sockets.get(index).map(|socket| socket.guest) else { return };
        let ends = Ends { guest, remote: env.fixed.seen(from) };
        let is_other = from.is_ipv4() != guest.is_ipv4();
        if is_other || self.allowed(env, ends, from, Direction::Ingress).is_err() {
            env.counters.strangers += 1;
            return;
        }
        if let Some(peer) =
            self.sockets.get_mut(index).and_then(|socket| socket.peers.get_mut(&ends.remote))
        {
            peer.received += u64::try_from(length).unwrap_or(0);
        }
        if is_pinned(env, from)
            && let Some(channel) = self.channel(index)
        {
            let message = env.scratch.get(HEADERS..HEADERS + length).unwrap_or_default();
            match env.witness.answer(env.policy, channel, from, message, env.now) {
                FromServer::Deliver => {}
                FromServer::Drop => return,
                FromServer::Replace(other) => return self.hand_over(env, ends, &other),
            }
        }
        self.emit(env, ends, length);
    }

    /// Gives the guest a datagram that is not in the scratch yet.
    fn hand_over(&mut self, env: &mut Env<'_, H>, ends: Ends, payload: &[u8]) {
        if let Some(room) = env.scratch.get_mut(HEADERS..HEADERS + payload.len()) {
            room.copy_from_slice(payload);
            self.emit(env, ends, payload.len());
        }
    }

    /// Gives the guest the datagram in the scratch.
    fn emit(&mut self, env: &mut Env<'_, H>, ends: Ends, length: usize) {
        let Ends { guest, remote: from } = ends;
        let header = ip_header(guest.ip());
        let start = HEADERS - UDP - header;
        let Some(packet) = env.scratch.get_mut(start..HEADERS + length) else { return };
        write_udp(packet, from, guest);
        if !env.outbox.large(env.port, packet, env.fixed.mtu) {
            env.counters.datagrams_dropped += 1;
        }
    }

    fn expire(&mut self, env: &mut Env<'_, H>) {
        while let Some(index) = self.deadlines.pop(env.now) {
            let Some(socket) = self.sockets.get_mut(index) else { continue };
            if socket.serves.is_some() {
                if let Some(until) = socket.expire(env) {
                    self.deadlines.set(index, until);
                }
                continue;
            }
            let until = socket.used + socket.life();
            if until <= env.now {
                self.close(env, index, "idle");
            } else {
                self.deadlines.set(index, until);
            }
        }
    }

    fn close(&mut self, env: &mut Env<'_, H>, index: usize, reason: &'static str) {
        let Some(mut socket) = self.sockets.try_remove(index) else { return };
        self.index.remove(&socket.guest);
        self.deadlines.clear(index);
        env.witness.forget(Channel(token(index, socket.serial).0));
        for (_, peer) in socket.peers.drain() {
            peer.over(env, socket.guest, reason);
        }
    }

    /// What there is to see of them: each port with each that it talks with.
    pub fn rows(&self) -> impl Iterator<Item = FlowRow> {
        self.sockets.iter().flat_map(|(_, socket)| {
            socket.peers.values().map(|peer| {
                let state = if peer.is_answered() { "open" } else { "unanswered" };
                let Peer { remote, sent, received, since, used, .. } = *peer;
                let progress = Progress { state, sent, received, since, used };
                let ends = Ends { guest: socket.guest, remote };
                FlowRow::of(peer.flow, ends, &peer.permit, progress)
            })
        })
    }

    /// Ends all of them.
    pub fn end(&mut self, env: &mut Env<'_, H>) {
        let all: Vec<usize> = self.sockets.iter().map(|(index, _)| index).collect();
        all.into_iter().for_each(|index| self.close(env, index, "revoked"));
    }

    /// When the next one may be closed.
    pub fn next(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Ends every flow that the policy in force would not allow any more.
    pub fn recheck(&mut self, env: &mut Env<'_, H>) -> usize {
        let mut ended = 0;
        for (_, socket) in &mut self.sockets {
            let guest = socket.guest;
            let denied = socket.peers.extract_if(|_, peer| {
                !env.may_go_on(peer.flow, Ends { guest, remote: peer.remote }, &peer.permit)
            });
            for (_, peer) in denied.collect::<Vec<_>>() {
                peer.over(env, guest, "revoked");
                ended += 1;
            }
        }
        ended
    }
}

/// Why a datagram goes no further.
enum Refused {
    Policy(DenyMode),
    Host,
    /// Somebody else has the address that the guest would see.
    Taken,
}

/// Whether it is a DNS server whose answers teach names.
fn is_pinned<H: HostNet>(env: &Env<'_, H>, server: SocketAddr) -> bool {
    server.port() == DNS && env.policy.is_pinned(server.ip())
}

/// Ports and payload, if the header holds.
fn parse<'a>(packet: &Packet, ip: &'a [u8], sealed: bool) -> Option<(u16, u16, &'a [u8])> {
    let udp = packet.payload(ip);
    let [f0, f1, t0, t1, l0, l1, c0, c1, ..] = *udp else { return None };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let udp = udp.get(..length)?;
    let none = [c0, c1] == [0, 0];
    // IPv4 may go without; for IPv6 it is what protects the addresses.
    if sealed && none && packet.source.is_ipv6() {
        return None;
    }
    if sealed && !none {
        let (from, to) = (packet.source, packet.destination);
        let pseudo = checksum::pseudo(from, to, IpProtocol::Udp, udp.len());
        if checksum::sum(udp, pseudo) != 0xffff {
            return None;
        }
    }
    let to = u16::from_be_bytes([t0, t1]);
    let payload = udp.get(UDP..)?;
    (to != 0).then_some((u16::from_be_bytes([f0, f1]), to, payload))
}
