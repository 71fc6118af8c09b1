//! Connections from outside, to what the guest listens on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use slab::Slab;

use super::endpoint::Endpoint;
use super::flow::Connection;
use super::{FLOWS, Flow, Key, Stage, Tcp, own_mss, token, track};
use crate::env::Env;
use crate::host::{Errno, HostNet, Owner, Stream, Token};
use crate::listeners::Listen;
use crate::policy::{Direction, Protocol};

/// Connections at a time whose client has an address of the pod's own. A guest
/// whose service leads back to it may call itself without end; stops that
/// circle from taking every flow.
const HAIRPINS: usize = 256;

/// Connections accepted of one listener in a turn; the backlog keeps the rest.
const ACCEPTED: usize = 64;

/// What listens.
pub struct Listeners<H: HostNet> {
    bound: BTreeMap<Listen, usize>,
    slots: Slab<(Listen, H::Listener)>,
    /// Those of which a turn did not accept everything.
    rest: BTreeSet<usize>,
}

impl<H: HostNet> Default for Listeners<H> {
    fn default() -> Self {
        Self { bound: BTreeMap::new(), slots: Slab::new(), rest: BTreeSet::new() }
    }
}

impl<H: HostNet> Listeners<H> {
    /// Listens on exactly these; answers what could not be bound.
    pub fn listen(
        &mut self,
        env: &mut Env<'_, H>,
        wanted: &BTreeSet<Listen>,
    ) -> Vec<(Listen, Errno)> {
        let gone: Vec<Listen> =
            self.bound.keys().filter(|bound| !wanted.contains(bound)).copied().collect();
        for listen in gone {
            if let Some(slot) = self.bound.remove(&listen) {
                self.slots.try_remove(slot);
            }
        }
        let mut failed = Vec::new();
        for listen in wanted {
            if self.bound.contains_key(listen) {
                continue;
            }
            let slot = self.slots.vacant_key();
            match env.host.listen(listen.at, Token::new(Owner::Listener, slot, 0)) {
                Ok(listener) => {
                    self.slots.insert((*listen, listener));
                    self.bound.insert(*listen, slot);
                }
                Err(error) => failed.push((*listen, error)),
            }
        }
        failed
    }
}

impl<H: HostNet> Tcp<H> {
    /// Somebody connects to a listener.
    pub fn accept(&mut self, env: &mut Env<'_, H>, slot: usize) {
        for _ in 0..ACCEPTED {
            // Before the place is chosen, as it may free another.
            if self.flows.len() >= FLOWS {
                self.reap(env);
            }
            let (index, serial) = (self.flows.vacant_key(), self.next_serial());
            let Some((listen, listener)) = self.listeners.slots.get_mut(slot) else { return };
            let listen = *listen;
            let Ok(accepted) = env.host.accept(listener, token(index, serial)) else { return };
            if listen.loopback {
                self.loopback.arrive(env, accepted.stream, accepted.peer, accepted.local);
            } else {
                self.admit(env, serial, accepted.stream, accepted.peer, accepted.local);
            }
        }
        // There may be more, and no edge will tell.
        self.listeners.rest.insert(slot);
    }

    fn admit(
        &mut self,
        env: &mut Env<'_, H>,
        serial: u32,
        stream: H::Stream,
        peer: SocketAddr,
        local: SocketAddr,
    ) {
        let Some(guest) = env.fixed.link.address_for(peer.ip()) else { return stream.reset() };
        let guest = SocketAddr::new(guest, local.port());
        let ends = Key { guest, remote: peer };
        let Ok(permit) = env.decide(Direction::Ingress, Protocol::Tcp, ends) else {
            return stream.reset();
        };
        let key = Key { guest, remote: env.fixed.seen(peer) };
        let hairpin = key.remote != peer;
        if hairpin && self.hairpins >= HAIRPINS {
            env.counters.hairpins_refused += 1;
            return stream.reset();
        }
        if self.index.contains_key(&key) || self.flows.len() >= FLOWS {
            env.counters.flows_full += 1;
            return stream.reset();
        }
        let own = own_mss(env, key);
        let track = track(key, own, env.fixed.capabilities);
        match Endpoint::connect(self.pool.take(), track, env.interface, guest, key.remote) {
            Ok(endpoint) => {
                let id = env.begin(ends, &permit);
                let connection = Connection::new(endpoint, stream, permit, true, env.now);
                let (since, stage) = (env.now, Stage::Open(Box::new(connection)));
                let flow = Flow { key, id, ends, hairpin, serial, queued: false, since, stage };
                self.hairpins += usize::from(hairpin);
                let index = self.insert(flow);
                self.mark(index);
            }
            Err(sockets) => {
                self.pool.put(sockets);
                stream.reset();
                env.fail(ends, &permit);
            }
        }
    }

    /// Accepts what a turn's bound left over.
    pub fn accept_rest(&mut self, env: &mut Env<'_, H>) -> bool {
        let slots = std::mem::take(&mut self.listeners.rest);
        for slot in &slots {
            self.accept(env, *slot);
        }
        !slots.is_empty()
    }
}
