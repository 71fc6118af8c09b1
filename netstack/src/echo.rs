//! ICMP echo: the guest's pings, sent by the host.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use slab::Slab;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::IpProtocol;

use crate::checksum;
use crate::deadlines::Deadlines;
use crate::emit::{ip_header, write_ip};
use crate::env::{End, Ends, Env, unreachable};
use crate::host::{Echoes, Errno, HostNet, Origin, Owner, Ready, Token};
use crate::icmp;
use crate::listing::{FlowRow, Progress};
use crate::packet::Packet;
use crate::policy::{DenyMode, Direction, Permit, Protocol};

/// Pings at a time: the guest's identifiers and whom they are for. Each has a
/// socket; the one used longest ago makes room.
pub const MOST: usize = 64;

/// How long one lives without a request (RFC 5508, REQ-2).
const LIFE: Duration = Duration::from_secs(60);

/// Replies received of one socket in a turn.
const TURN: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    guest: IpAddr,
    remote: IpAddr,
    id: u16,
}

impl Key {
    fn ends(self) -> Ends {
        let port = |ip| SocketAddr::new(ip, 0);
        Ends { guest: port(self.guest), remote: port(self.remote) }
    }
}

struct Ping<E> {
    flow: u64,
    key: Key,
    serial: u32,
    echoes: E,
    permit: Permit,
    since: Instant,
    used: Instant,
    sent: u64,
    received: u64,
}

/// All pings.
pub struct Echo<H: HostNet> {
    pings: Slab<Ping<H::Echoes>>,
    index: HashMap<Key, usize>,
    deadlines: Deadlines<usize>,
    serial: u32,
}

impl<H: HostNet> Default for Echo<H> {
    fn default() -> Self {
        Self {
            pings: Slab::new(),
            index: HashMap::new(),
            deadlines: Deadlines::default(),
            serial: 0,
        }
    }
}

fn token(index: usize, serial: u32) -> Token {
    Token::new(Owner::Echo, index, serial)
}

impl<H: HostNet> Echo<H> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.pings.len()
    }

    /// Takes an ICMP message of the guest. What is no request goes nowhere:
    /// the guest's errors are about flows that end in this stack.
    pub fn take(&mut self, env: &mut Env<'_, H>, packet: &Packet, ip: &[u8]) {
        let message = packet.payload(ip);
        let [kind, 0, _, _, i0, i1, s0, s1, data @ ..] = message else {
            return env.counters.refuse("ICMP");
        };
        let request = if packet.source.is_ipv4() { 8 } else { 128 };
        if *kind != request || packet.hops == 0 {
            return env.counters.refuse("ICMP");
        }
        if !is_whole(packet, message) {
            return env.counters.refuse("ICMP checksum");
        }
        let id = u16::from_be_bytes([*i0, *i1]);
        let key = Key { guest: packet.source, remote: packet.destination, id };
        let ip = ip.get(..packet.length).unwrap_or(ip);
        match self.allowed(env, key) {
            Ok(index) => {
                let sequence = u16::from_be_bytes([*s0, *s1]);
                self.send(env, index, sequence, data, packet, ip);
            }
            Err(Some(DenyMode::Reject)) if packet.is_to_one() => {
                let from = env.fixed.gateway(packet.source);
                env.error(icmp::Error::Prohibited, ip, packet.source, from);
            }
            Err(_) => {}
        }
    }

    fn allowed(&mut self, env: &mut Env<'_, H>, key: Key) -> Result<usize, Option<DenyMode>> {
        if let Some(index) = self.index.get(&key).copied() {
            return Ok(index);
        }
        let permit = env.decide(Direction::Egress, Protocol::Icmp, key.ends()).map_err(Some)?;
        if self.pings.len() >= MOST {
            let oldest = self.pings.iter().min_by_key(|(_, ping)| ping.used);
            if let Some(index) = oldest.map(|(index, _)| index) {
                self.close(env, index, "evicted");
            }
        }
        self.serial = self.serial.wrapping_add(1) & 0xff_ffff;
        let (index, serial) = (self.pings.vacant_key(), self.serial);
        let opened = env.host.echoes(&permit, key.guest.is_ipv4(), token(index, serial));
        let echoes = opened.map_err(|_| {
            env.fail(key.ends(), &permit);
            None
        })?;
        let flow = env.begin(key.ends(), &permit);
        let now = env.now;
        self.pings.insert(Ping {
            flow,
            key,
            serial,
            echoes,
            permit,
            since: now,
            used: now,
            sent: 0,
            received: 0,
        });
        self.index.insert(key, index);
        self.deadlines.set(index, now + LIFE);
        Ok(index)
    }

    fn send(
        &mut self,
        env: &mut Env<'_, H>,
        index: usize,
        sequence: u16,
        data: &[u8],
        packet: &Packet,
        ip: &[u8],
    ) {
        let Some(ping) = self.pings.get_mut(index) else { return };
        env.outbox.tap.about(ping.flow);
        ping.used = env.now;
        let mut result = ping.echoes.send(ping.key.remote, sequence, data, packet.hops);
        if result.is_err() {
            // An error about an earlier request is reported for that one.
            ping.tell(env);
            result = ping.echoes.send(ping.key.remote, sequence, data, packet.hops);
        }
        match result {
            Ok(()) => ping.sent += u64::try_from(data.len()).unwrap_or(0),
            Err(error) => {
                let error = match error {
                    Errno::MSGSIZE => Some(icmp::Error::TooBig(u32::from(env.fixed.mtu))),
                    other => unreachable(other),
                };
                if let Some(error) = error {
                    env.error(error, ip, packet.source, env.fixed.gateway(packet.source));
                }
            }
        }
    }

    /// Something happened at a socket.
    pub fn ready(&mut self, env: &mut Env<'_, H>, ready: Ready) -> bool {
        let index = ready.token.slot();
        let Some(ping) = self.pings.get_mut(index) else { return false };
        if token(index, ping.serial) != ready.token {
            return false;
        }
        env.outbox.tap.about(ping.flow);
        if ready.failed {
            ping.tell(env);
        }
        for _ in 0..TURN {
            if !ping.receive(env) {
                return false;
            }
        }
        true
    }

    fn close(&mut self, env: &mut Env<'_, H>, index: usize, reason: &'static str) {
        let Some(ping) = self.pings.try_remove(index) else { return };
        self.index.remove(&ping.key);
        self.deadlines.clear(index);
        let Ping { flow, key, permit, since, sent, received, .. } = ping;
        let end = End { flow, reason, sent, received, since };
        env.witness.closed(key.ends(), &permit, &end, env.now);
    }

    /// Closes what has not been used.
    pub fn run(&mut self, env: &mut Env<'_, H>) {
        while let Some(index) = self.deadlines.pop(env.now) {
            let Some(ping) = self.pings.get(index) else { continue };
            let until = ping.used + LIFE;
            if until <= env.now {
                self.close(env, index, "idle");
            } else {
                self.deadlines.set(index, until);
            }
        }
    }

    /// What there is to see of them.
    pub fn rows(&self) -> impl Iterator<Item = FlowRow> {
        self.pings.iter().map(|(_, ping)| {
            let state = if ping.received > 0 { "open" } else { "unanswered" };
            let Ping { sent, received, since, used, .. } = *ping;
            let progress = Progress { state, sent, received, since, used };
            FlowRow::of(ping.flow, ping.key.ends(), &ping.permit, progress)
        })
    }

    /// Ends all of them.
    pub fn end(&mut self, env: &mut Env<'_, H>) {
        let all: Vec<usize> = self.pings.iter().map(|(index, _)| index).collect();
        all.into_iter().for_each(|index| self.close(env, index, "revoked"));
    }

    /// When the next one may be closed.
    pub fn next(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Ends every ping that the policy in force would not allow any more.
    pub fn recheck(&mut self, env: &mut Env<'_, H>) -> usize {
        let denied: Vec<usize> = self
            .pings
            .iter()
            .filter(|(_, ping)| !env.may_go_on(ping.flow, ping.key.ends(), &ping.permit))
            .map(|(index, _)| index)
            .collect();
        for index in &denied {
            self.close(env, *index, "revoked");
        }
        denied.len()
    }
}

impl<E: Echoes> Ping<E> {
    /// Hands one reply to the guest; whether there was one.
    fn receive<H: HostNet>(&mut self, env: &mut Env<'_, H>) -> bool {
        let (from, sequence, length) = match self.echoes.receive(env.scratch) {
            Ok(received) => received,
            Err(Errno::INTR) => return true,
            Err(_) => return false,
        };
        let key = self.key;
        if from != key.remote {
            env.counters.strangers += 1;
            return true;
        }
        self.received += u64::try_from(length).unwrap_or(0);
        let data = env.scratch.get(..length).unwrap_or_default();
        let kind = if key.guest.is_ipv4() { 0 } else { 129 };
        let packet =
            icmp::message(key.remote, key.guest, kind, 0, identify(key.id, sequence), data);
        if !env.outbox.large(env.port, &packet, env.fixed.mtu) {
            env.counters.datagrams_dropped += 1;
        }
        true
    }

    /// Tells the guest what was reported about its requests.
    fn tell<H: HostNet>(&mut self, env: &mut Env<'_, H>) {
        while let Some((notice, sequence)) = self.echoes.notice() {
            let Origin::Icmp(kind, code) = notice.origin else { continue };
            let error = match notice.errno {
                Errno::MSGSIZE => icmp::Error::TooBig(notice.mtu),
                _ => icmp::Error::Raw(kind, code, [0; 4]),
            };
            let key = self.key;
            let header = ip_header(key.guest);
            let (protocol, request) =
                if key.guest.is_ipv4() { (IpProtocol::Icmp, 8) } else { (IpProtocol::Icmpv6, 128) };
            let mut quote = vec![0; header];
            write_ip(&mut quote, key.guest, key.remote, protocol, icmp::HEADER);
            quote.extend_from_slice(&[request, 0, 0, 0]);
            quote.extend_from_slice(&identify(key.id, sequence));
            let from = notice.from.unwrap_or(env.fixed.gateway(key.guest));
            env.error(error, &quote, key.guest, from);
        }
    }
}

fn identify(id: u16, sequence: u16) -> [u8; 4] {
    let ([i0, i1], [s0, s1]) = (id.to_be_bytes(), sequence.to_be_bytes());
    [i0, i1, s0, s1]
}

fn is_whole(packet: &Packet, message: &[u8]) -> bool {
    let start = match (packet.source, packet.destination) {
        (IpAddr::V4(_), _) => 0,
        (from, to) => checksum::pseudo(from, to, IpProtocol::Icmpv6, message.len()),
    };
    checksum::sum(message, start) == 0xffff
}
