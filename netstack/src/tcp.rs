//! TCP: each flow of the guest is one of the host.
//!
//! The guest's SYN is held while the host connects; only then does it come to
//! smoltcp, which answers it. So the guest is connected when the other end
//! has accepted, and refused when it has refused.

mod dials;
mod endpoint;
mod flow;
mod guard;
mod inbound;
mod line;
mod loopback;
mod outbound;
mod pool;
pub mod segment;
mod taken;
mod tombstone;

use std::collections::{HashMap, VecDeque};

use slab::Slab;
use smoltcp::time::{Duration, Instant};

use crate::deadlines::Deadlines;
use crate::env::{End, Ends, Env};
use crate::host::{Errno, HostNet, Owner, Ready, Stream, Token};
use crate::listing::{FlowRow, Progress};
use crate::packet::Packet;
use crate::policy::Permit;
use crate::port::Capabilities;
use dials::Dials;
use flow::{Close, Connection, Context, Judge, Turn};
pub use inbound::Listeners;
use line::Track;
pub use loopback::{Arrival, Loopback};
use pool::Pool;
use segment::RST;
use taken::Taken;
use tombstone::{Late, Tombstones};

pub(crate) use line::Nothing;

/// Which connection.
pub type Key = Ends;

/// Connections at a time, those being dialled included. Each has a socket and
/// rings; stops a guest from taking all of them.
pub const FLOWS: usize = 4_096;

/// How long one must have been silent to make room for another when there are
/// as many as may be (RFC 5382, REQ-5). Otherwise none is ended for silence.
const IDLE: Duration = Duration::from_secs(2 * 3_600 + 240);

/// How often those that are silent are looked for: all are looked at.
const REAPING: Duration = Duration::from_secs(1);

/// MSS of a guest whose SYN has no MSS option (RFC 9293, 3.7.1).
const DEFAULT_MSS: u16 = 536;

/// Smallest that smoltcp goes by.
const LEAST_MSS: u16 = 48;

/// DNS.
const DNS: u16 = 53;

/// A flow of the table.
struct Flow<S> {
    key: Key,
    id: u64,
    /// Its ends as they are, and not as the guest is to see them.
    ends: Ends,
    /// The other end is in the pod's namespace too.
    hairpin: bool,
    serial: u32,
    queued: bool,
    since: Instant,
    stage: Stage<S>,
}

enum Stage<S> {
    Dialing {
        stream: S,
        permit: Permit,
        syn: Vec<u8>,
        seq: u32,
    },
    Open(Box<Connection<S>>),
    /// On its way out of the table.
    Gone,
}

/// All connections.
pub struct Tcp<H: HostNet> {
    flows: Slab<Flow<H::Stream>>,
    index: HashMap<Key, usize>,
    /// Attempts in the order that they began, some of them over.
    attempts: VecDeque<(Instant, usize, u32)>,
    dials: Dials,
    pool: Pool,
    tombstones: Tombstones,
    deadlines: Deadlines<usize>,
    queue: VecDeque<usize>,
    serial: u32,
    listeners: Listeners<H>,
    loopback: Loopback<H::Stream>,
    hairpins: usize,
    /// When room was looked for among those that are open.
    reaped: Instant,
}

fn token(index: usize, serial: u32) -> Token {
    Token::new(Owner::Tcp, index, serial)
}

impl<H: HostNet> Tcp<H> {
    /// Without connections; the rings may have `budget` bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            flows: Slab::new(),
            index: HashMap::new(),
            attempts: VecDeque::new(),
            dials: Dials::default(),
            pool: Pool::new(budget),
            tombstones: Tombstones::default(),
            deadlines: Deadlines::default(),
            queue: VecDeque::new(),
            serial: 0,
            listeners: Listeners::default(),
            loopback: Loopback::default(),
            hairpins: 0,
            reaped: Instant::ZERO,
        }
    }

    /// Listeners that clients outside can reach.
    pub fn listeners(&mut self) -> &mut Listeners<H> {
        &mut self.listeners
    }

    /// Those to the guest's loopback.
    pub fn loopback(&mut self) -> &mut Loopback<H::Stream> {
        &mut self.loopback
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flows.len() + self.loopback.len()
    }

    /// Attempts under way.
    pub fn dialing(&self) -> usize {
        self.dials.total()
    }

    /// Bytes in rings.
    pub fn rings(&self) -> usize {
        self.pool.used()
    }

    /// Takes a packet of the guest, whose checksum is right or left to us.
    pub fn take(&mut self, env: &mut Env<'_, H>, packet: &Packet, ip: &mut [u8]) {
        let Some(taken) = Taken::read(packet, ip) else {
            return env.counters.refuse("TCP header cut short");
        };
        match self.index.get(&taken.key).copied() {
            Some(index) => self.take_known(env, index, taken),
            None => self.take_unknown(env, taken),
        }
    }

    fn take_known(&mut self, env: &mut Env<'_, H>, index: usize, taken: Taken<'_>) {
        let found = taken.found;
        let Some(flow) = self.flows.get_mut(index) else { return };
        env.outbox.tap.about(flow.id);
        match &mut flow.stage {
            Stage::Dialing { seq, syn, .. } => {
                if found.opens() && *seq != found.seq {
                    *seq = found.seq;
                    *syn = taken.opening();
                } else if found.has(RST) {
                    self.abandon(env, index, Close::ByGuest);
                }
            }
            Stage::Open(connection) if connection.is_ended() => {
                let track = &connection.endpoint.track;
                if let Some(bytes) = tombstone::answer(&taken.key, &found, track.next, track.acked)
                {
                    env.outbox.whole(env.port, &bytes);
                }
            }
            Stage::Open(connection) => {
                let ip = taken.plain();
                env.counters.fins_held += u64::from(connection.hear(&found, ip, env.now));
                connection.endpoint.deliver(
                    env.interface,
                    env.port,
                    env.outbox,
                    env.now,
                    &found,
                    ip,
                );
                self.mark(index);
            }
            Stage::Gone => {}
        }
    }

    fn take_unknown(&mut self, env: &mut Env<'_, H>, taken: Taken<'_>) {
        match self.tombstones.judge(&taken.key, &taken.found, env.now) {
            Late::Silence => return,
            Late::Answer(bytes) => return env.outbox.whole(env.port, &bytes),
            Late::Unknown | Late::Reopens => {}
        }
        if taken.found.opens() {
            self.open(env, taken);
        } else {
            taken.reset(env);
        }
    }

    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1) & 0xff_ffff;
        self.serial
    }

    fn insert(&mut self, flow: Flow<H::Stream>) -> usize {
        let key = flow.key;
        let index = self.flows.insert(flow);
        self.index.insert(key, index);
        index
    }

    /// Something happened at a connection's socket.
    pub fn ready(&mut self, env: &mut Env<'_, H>, ready: Ready) {
        let index = ready.token.slot();
        let Some(flow) = self.flows.get_mut(index) else { return };
        if token(index, flow.serial) != ready.token {
            return;
        }
        env.outbox.tap.about(flow.id);
        match &mut flow.stage {
            Stage::Dialing { stream, .. } => {
                if !ready.writable && !ready.closing {
                    return;
                }
                match if ready.failed { stream.error() } else { Ok(()) } {
                    Ok(()) => self.establish(env, index, ready),
                    Err(error) => self.fail(env, index, error),
                }
            }
            Stage::Open(connection) => {
                connection.readable |= ready.readable;
                connection.writable |= ready.writable;
                connection.closing |= ready.closing;
                connection.broken |= ready.failed;
                self.mark(index);
            }
            Stage::Gone => {}
        }
    }

    /// Takes an attempt out.
    fn abandon(&mut self, env: &mut Env<'_, H>, index: usize, close: Close) {
        let answered =
            !matches!(close, Close::Unanswered | Close::Evicted | Close::ByHost(Errno::TIMEDOUT));
        if let Some(flow) = self.flows.get(index)
            && matches!(flow.stage, Stage::Dialing { .. })
        {
            self.dials.end(flow.key.remote, answered && close != Close::Revoked);
        }
        self.remove(env, index, close);
    }

    fn remove(&mut self, env: &mut Env<'_, H>, index: usize, close: Close) {
        let Some(flow) = self.flows.try_remove(index) else { return };
        self.index.remove(&flow.key);
        self.hairpins -= usize::from(flow.hairpin);
        self.deadlines.clear(index);
        let end = |sent, received| End {
            flow: flow.id,
            reason: word(close),
            sent,
            received,
            since: flow.since,
        };
        match flow.stage {
            Stage::Dialing { stream, permit, .. } => {
                stream.reset();
                env.witness.closed(flow.ends, &permit, &end(0, 0), env.now);
            }
            Stage::Open(connection) => {
                let Connection { endpoint, permit, sent, received, resolver, .. } = *connection;
                if let Some(resolver) = resolver {
                    env.witness.forget(resolver.channel());
                }
                env.witness.closed(flow.ends, &permit, &end(sent, received), env.now);
                if close == Close::Finished {
                    let track = &endpoint.track;
                    self.tombstones.add(flow.key, track.next, track.acked, env.now);
                }
                self.pool.put(endpoint.into_sockets());
            }
            Stage::Gone => {}
        }
    }

    fn mark(&mut self, index: usize) {
        if let Some(flow) = self.flows.get_mut(index)
            && !std::mem::replace(&mut flow.queued, true)
        {
            self.queue.push_back(index);
        }
    }

    /// Gives each flow that has something to do one turn; whether there is
    /// more to do at once.
    pub fn run(&mut self, env: &mut Env<'_, H>) -> bool {
        while let Some(index) = self.deadlines.pop(env.now) {
            match self.flows.get(index).map(|flow| &flow.stage) {
                Some(Stage::Dialing { .. }) => self.abandon(env, index, Close::Unanswered),
                _ => self.mark(index),
            }
        }
        let mut again = false;
        for _ in 0..self.queue.len() {
            let Some(index) = self.queue.pop_front() else { break };
            again |= self.turn(env, index);
        }
        again
    }

    fn turn(&mut self, env: &mut Env<'_, H>, index: usize) -> bool {
        let Some(flow) = self.flows.get_mut(index) else { return false };
        flow.queued = false;
        env.outbox.tap.about(flow.id);
        let Stage::Open(connection) = &mut flow.stage else { return false };
        let turn = connection.turn(&mut Context {
            interface: env.interface,
            port: env.port,
            outbox: env.outbox,
            judge: Judge { witness: env.witness, policy: env.policy, now: env.now },
            now: env.now,
        });
        match turn {
            Turn::Wait(Some(at)) => self.deadlines.set(index, at),
            Turn::Wait(None) => {}
            Turn::Again | Turn::Full => self.mark(index),
            Turn::Over(close) => self.remove(env, index, close),
        }
        turn == Turn::Again
    }

    /// When the next one wants to be looked at.
    pub fn next(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Fails if the tables do not fit each other: every flow is found by its
    /// key, those that are dialled are counted, and no deadline or turn is one
    /// of nobody.
    #[cfg(test)]
    pub fn assert_consistent(&self) {
        assert_eq!(self.index.len(), self.flows.len());
        for (index, flow) in &self.flows {
            assert_eq!(self.index.get(&flow.key), Some(&index));
            assert_eq!(flow.queued, self.queue.contains(&index));
            assert!(!matches!(flow.stage, Stage::Gone));
        }
        let dialing = |(_, flow): &(usize, &Flow<_>)| matches!(flow.stage, Stage::Dialing { .. });
        assert_eq!(self.dials.total(), self.flows.iter().filter(dialing).count());
        let hairpins = self.flows.iter().filter(|(_, flow)| flow.hairpin).count();
        assert_eq!(self.hairpins, hairpins);
        assert!(self.deadlines.keys().all(|index| self.flows.contains(index)));
    }

    /// What there is to see of them.
    pub fn rows(&self) -> impl Iterator<Item = FlowRow> {
        let open = self.flows.iter().filter_map(|(_, flow)| {
            let since = flow.since;
            let (permit, progress) = match &flow.stage {
                Stage::Dialing { permit, .. } => {
                    let state = "dialing";
                    (permit, Progress { state, sent: 0, received: 0, since, used: since })
                }
                Stage::Open(connection) => (&connection.permit, connection.progress(since)),
                Stage::Gone => return None,
            };
            Some(FlowRow::of(flow.id, flow.ends, permit, progress))
        });
        open.chain(self.loopback.rows())
    }

    /// Ends all of them with resets both ways, and listens no more.
    pub fn end(&mut self, env: &mut Env<'_, H>) {
        let all: Vec<usize> = self.flows.iter().map(|(index, _)| index).collect();
        all.into_iter().for_each(|index| self.revoke(env, index, Close::Revoked));
        self.loopback.end(env, word(Close::Revoked));
        self.listeners = Listeners::default();
    }

    fn revoke(&mut self, env: &mut Env<'_, H>, index: usize, why: Close) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        env.outbox.tap.about(flow.id);
        if let Stage::Open(connection) = &mut flow.stage {
            connection.revoke(&mut Context {
                interface: env.interface,
                port: env.port,
                outbox: env.outbox,
                judge: Judge { witness: env.witness, policy: env.policy, now: env.now },
                now: env.now,
            });
        }
        self.abandon(env, index, why);
    }

    /// Ends every flow that the policy in force would not allow any more.
    pub fn recheck(&mut self, env: &mut Env<'_, H>) -> usize {
        let denied: Vec<usize> = self
            .flows
            .iter()
            .filter(|(_, flow)| match &flow.stage {
                Stage::Dialing { permit, .. } => !env.may_go_on(flow.id, flow.ends, permit),
                Stage::Open(connection) => !env.may_go_on(flow.id, flow.ends, &connection.permit),
                Stage::Gone => false,
            })
            .map(|(index, _)| index)
            .collect();
        for index in &denied {
            self.revoke(env, *index, Close::Revoked);
        }
        denied.len() + self.loopback.recheck(env)
    }
}

fn word(close: Close) -> &'static str {
    match close {
        Close::Finished => "finished",
        Close::ByGuest => "reset by guest",
        Close::ByHost(Errno::CONNREFUSED) => "refused",
        Close::ByHost(_) => "failed",
        Close::Unanswered => "unanswered",
        Close::Evicted => "evicted",
        Close::Revoked => "revoked",
    }
}

fn own_mss<H: HostNet>(env: &Env<'_, H>, key: Key) -> u16 {
    let headers = crate::emit::ip_header(key.guest.ip()) + segment::HEADER;
    env.fixed.mtu.saturating_sub(u16::try_from(headers).unwrap_or(0)).max(LEAST_MSS)
}

fn track(key: Key, own_mss: u16, capabilities: Capabilities) -> Track {
    Track {
        guest: key.guest.ip(),
        remote: key.remote.ip(),
        mss: DEFAULT_MSS,
        own_mss,
        capabilities,
        guard: guard::Guard::default(),
        next: 0,
        closed: false,
        cut: false,
        again: false,
        acked: 0,
        reset: false,
    }
}
