//! Connections of the guest: the host is asked first.

use super::dials::{LIFE, PATIENCE, TooMany};
use super::endpoint::Endpoint;
use super::flow::{Close, Connection, Resolver};
use super::segment::{self, Segment};
use super::taken::Taken;
use super::{DNS, FLOWS, Flow, IDLE, Key, REAPING, Stage, Tcp, own_mss, token, track};
use crate::dns::Channel;
use crate::env::{Env, unreachable};
use crate::host::{Errno, HostNet, Ready};
use crate::policy::{DenyMode, Direction, Protocol};

impl<H: HostNet> Tcp<H> {
    /// Takes a SYN that belongs to no connection.
    pub(super) fn open(&mut self, env: &mut Env<'_, H>, taken: Taken<'_>) {
        let key = taken.key;
        // Before the policy: what is not to be dialled costs nothing.
        if self.dials.is_full(key.remote) {
            env.counters.dials_dropped += 1;
            return;
        }
        let permit = match env.decide(Direction::Egress, Protocol::Tcp, key) {
            Ok(permit) => permit,
            Err(DenyMode::Drop) => return,
            Err(DenyMode::Reject) => return taken.reset(env),
        };
        if !self.has_room(env) || !self.may_dial(env, key) {
            return;
        }
        let (index, serial) = (self.flows.vacant_key(), self.next_serial());
        let (seq, syn) = (taken.found.seq, taken.opening());
        match env.host.connect(&permit, key.remote, token(index, serial)) {
            Ok(stream) => {
                let id = env.begin(key, &permit);
                let (since, ends) = (env.now, key);
                let stage = Stage::Dialing { stream, permit, syn, seq };
                self.insert(Flow {
                    key,
                    id,
                    ends,
                    hairpin: false,
                    serial,
                    queued: false,
                    since,
                    stage,
                });
                self.forget_attempts();
                self.attempts.push_back((env.now, index, serial));
                self.deadlines.set(index, env.now + LIFE);
            }
            Err(error) => {
                self.dials.end(key.remote, error != Errno::TIMEDOUT);
                refuse(env, key, &syn, error);
                env.fail(key, &permit);
            }
        }
    }

    /// Whether one more may be; one that was silent for very long makes room.
    pub(super) fn has_room(&mut self, env: &mut Env<'_, H>) -> bool {
        let room = self.flows.len() < FLOWS || self.reap(env);
        env.counters.flows_full += u64::from(!room);
        room
    }

    /// Ends the one that was silent longest, if that was long enough.
    pub(super) fn reap(&mut self, env: &mut Env<'_, H>) -> bool {
        if env.now < self.reaped + REAPING {
            return false;
        }
        self.reaped = env.now;
        let heard = |flow: &Flow<H::Stream>| match &flow.stage {
            Stage::Open(connection) => connection.heard(),
            _ => env.now,
        };
        let oldest = self.flows.iter().min_by_key(|(_, flow)| heard(flow));
        let Some((index, flow)) = oldest.filter(|(_, flow)| heard(flow) + IDLE <= env.now) else {
            return false;
        };
        env.outbox.tap.about(flow.id);
        env.counters.flows_reaped += 1;
        self.revoke(env, index, Close::Evicted);
        true
    }

    fn may_dial(&mut self, env: &mut Env<'_, H>, key: Key) -> bool {
        match self.dials.begin(key.remote, env.now) {
            Ok(()) => return true,
            Err(TooMany::Everywhere) if self.evict(env) => {
                if self.dials.begin(key.remote, env.now).is_ok() {
                    return true;
                }
            }
            Err(_) => {}
        }
        env.counters.dials_dropped += 1;
        false
    }

    /// Drops attempts that are over from the front of their row.
    fn forget_attempts(&mut self) {
        while let Some((_, index, serial)) = self.attempts.front().copied() {
            let waits = self.flows.get(index).is_some_and(|flow| {
                flow.serial == serial && matches!(flow.stage, Stage::Dialing { .. })
            });
            if waits {
                return;
            }
            self.attempts.pop_front();
        }
    }

    /// Gives up the attempt that has waited longest, if that is long.
    fn evict(&mut self, env: &mut Env<'_, H>) -> bool {
        self.forget_attempts();
        let Some((since, index, _)) = self.attempts.front().copied() else { return false };
        if env.now < since + PATIENCE {
            return false;
        }
        env.counters.dials_evicted += 1;
        self.abandon(env, index, Close::Evicted);
        true
    }

    /// The host is connected: now the guest's SYN is answered.
    pub(super) fn establish(&mut self, env: &mut Env<'_, H>, index: usize, ready: Ready) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        let (key, stage) = (flow.key, std::mem::replace(&mut flow.stage, Stage::Gone));
        let Stage::Dialing { stream, permit, mut syn, .. } = stage else { return };
        self.dials.end(key.remote, true);
        let at = crate::emit::ip_header(key.guest.ip());
        let own = own_mss(env, key);
        let options =
            syn.get_mut(at..).map(|tcp| segment::clamp_options(tcp, own)).unwrap_or_default();
        let track = track(key, own, env.fixed.capabilities);
        let mut endpoint = Endpoint::listen(self.pool.take(), track, key.remote);
        endpoint.agree(options);
        if let Some(found) = syn.get(at..).and_then(Segment::parse) {
            endpoint.deliver(env.interface, env.port, env.outbox, env.now, &found, &syn);
            // At once, before what other flows have to do in this turn.
            endpoint.send(env.interface, env.port, env.outbox, env.now);
        }
        let mut connection = Connection::new(endpoint, stream, permit, false, env.now);
        if key.remote.port() == DNS && env.policy.is_pinned(key.remote.ip()) {
            let channel = Channel(token(index, flow.serial).0);
            connection.resolver = Some(Box::new(Resolver::new(channel, key)));
        }
        connection.readable = ready.readable;
        connection.closing = ready.closing;
        connection.broken = ready.failed;
        flow.stage = Stage::Open(Box::new(connection));
        self.deadlines.clear(index);
        self.mark(index);
    }

    /// The host could not be connected.
    pub(super) fn fail(&mut self, env: &mut Env<'_, H>, index: usize, error: Errno) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        if let Stage::Dialing { syn, .. } = &mut flow.stage {
            let (key, syn) = (flow.key, std::mem::take(syn));
            refuse(env, key, &syn, error);
        }
        self.abandon(env, index, Close::ByHost(error));
    }
}

/// Tells the guest how the host's attempt went.
fn refuse<H: HostNet>(env: &mut Env<'_, H>, key: Key, syn: &[u8], error: Errno) {
    let (guest, remote) = (key.guest.ip(), key.remote.ip());
    match error {
        Errno::CONNREFUSED | Errno::CONNRESET => {
            let at = crate::emit::ip_header(guest);
            let reset =
                syn.get(at..).and_then(Segment::parse).and_then(|found| found.reset(guest, remote));
            if let Some(reset) = reset {
                env.outbox.whole(env.port, &reset);
            }
        }
        // The guest has a timer of its own.
        Errno::TIMEDOUT => {}
        other => {
            if let Some(what) = unreachable(other) {
                env.error(what, syn, guest, env.fixed.gateway(guest));
            }
        }
    }
}
