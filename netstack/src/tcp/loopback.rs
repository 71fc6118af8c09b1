//! Connections to the guest's loopback: no frame can reach it, so somebody
//! else carries them on. Here they are flows like all others: decided, in the
//! audit, shown, and ended when the policy does not allow them any more.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use smoltcp::time::Instant;

use crate::env::{End, Ends, Env};
use crate::host::{HostNet, Stream};
use crate::listing::{FlowRow, Progress};
use crate::policy::{Direction, Permit, Protocol};

/// Connections to the loopback at a time, those included that wait for who
/// carries them on. Each has a socket; stops who dials and dials from taking
/// every file descriptor of the process.
pub const MOST: usize = 512;

/// A connection to the guest's loopback.
#[derive(Debug)]
pub struct Arrival<S> {
    /// Its number, by which it is spoken of.
    pub flow: u64,
    /// It.
    pub stream: S,
    /// The client.
    pub peer: SocketAddr,
    /// What was dialled: the address says the family, and the port whom.
    pub local: SocketAddr,
}

struct Carried {
    ends: Ends,
    permit: Permit,
    sent: u64,
    received: u64,
    since: Instant,
    used: Instant,
}

/// All of them.
pub struct Loopback<S> {
    waiting: VecDeque<Arrival<S>>,
    carried: BTreeMap<u64, Carried>,
}

impl<S> Default for Loopback<S> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), carried: BTreeMap::new() }
    }
}

impl<S: Stream> Loopback<S> {
    /// Somebody has connected.
    pub fn arrive<H: HostNet>(
        &mut self,
        env: &mut Env<'_, H>,
        stream: S,
        peer: SocketAddr,
        local: SocketAddr,
    ) {
        let ends = Ends { guest: local, remote: peer };
        let Ok(permit) = env.decide(Direction::Ingress, Protocol::Tcp, ends) else {
            return stream.reset();
        };
        if self.carried.len() >= MOST {
            env.counters.flows_full += 1;
            return stream.reset();
        }
        let flow = env.begin(ends, &permit);
        self.waiting.push_back(Arrival { flow, stream, peer, local });
        let (since, used) = (env.now, env.now);
        let carried = Carried { ends, permit, sent: 0, received: 0, since, used };
        self.carried.insert(flow, carried);
    }

    /// The next one to be carried on.
    pub fn arrival(&mut self) -> Option<Arrival<S>> {
        self.waiting.pop_front()
    }

    /// Bytes so far; false when it is to end.
    pub fn carry(&mut self, flow: u64, sent: u64, received: u64, now: Instant) -> bool {
        let Some(carried) = self.carried.get_mut(&flow) else { return false };
        (carried.sent, carried.received, carried.used) = (sent, received, now);
        true
    }

    /// It is over.
    pub fn depart<H: HostNet>(&mut self, env: &mut Env<'_, H>, flow: u64, reason: &'static str) {
        let Some(carried) = self.carried.remove(&flow) else { return };
        let Carried { ends, permit, sent, received, since, .. } = carried;
        let end = End { flow, reason, sent, received, since };
        env.witness.closed(ends, &permit, &end, env.now);
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.flow == flow)
            && let Some(arrival) = self.waiting.remove(at)
        {
            arrival.stream.reset();
        }
    }

    /// Ends those that the policy in force would not allow any more.
    pub fn recheck<H: HostNet>(&mut self, env: &mut Env<'_, H>) -> usize {
        let denied: Vec<u64> = self
            .carried
            .iter()
            .filter(|(flow, carried)| !env.may_go_on(**flow, carried.ends, &carried.permit))
            .map(|(flow, _)| *flow)
            .collect();
        denied.iter().for_each(|flow| self.depart(env, *flow, "revoked"));
        denied.len()
    }

    /// Ends all.
    pub fn end<H: HostNet>(&mut self, env: &mut Env<'_, H>, reason: &'static str) {
        let all: Vec<u64> = self.carried.keys().copied().collect();
        all.into_iter().for_each(|flow| self.depart(env, flow, reason));
    }

    /// What there is to see of them.
    pub fn rows(&self) -> impl Iterator<Item = FlowRow> {
        self.carried.iter().map(|(flow, carried)| {
            let Carried { sent, received, since, used, .. } = *carried;
            let state = if self.waiting.iter().any(|waiting| waiting.flow == *flow) {
                "dialing"
            } else {
                "open"
            };
            let progress = Progress { state, sent, received, since, used };
            FlowRow::of(*flow, carried.ends, &carried.permit, progress)
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.carried.len()
    }
}
