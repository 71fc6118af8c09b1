//! Ports that the guest serves: bound at addresses of the pod for as long as
//! the guest says so, for whom the policy lets in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Udp;
use super::socket::Socket;
use crate::env::{Ends, Env};
use crate::host::{Datagrams, Errno, HostNet};
use crate::listeners::Listen;

impl<H: HostNet> Udp<H> {
    /// Serves exactly these; answers what could not be bound.
    pub fn serve(
        &mut self,
        env: &mut Env<'_, H>,
        wanted: &BTreeSet<Listen>,
    ) -> Vec<(Listen, Errno)> {
        // A port of the guest has one socket, so that an answer has one way.
        let mut ports: BTreeMap<SocketAddr, Listen> = BTreeMap::new();
        let mut failed = Vec::new();
        for listen in wanted {
            match listen.guest(env.fixed) {
                Some(guest) if !ports.contains_key(&guest) => drop(ports.insert(guest, *listen)),
                Some(_) => failed.push((*listen, Errno::ADDRINUSE)),
                None => failed.push((*listen, Errno::AFNOSUPPORT)),
            }
        }
        let is_gone = |socket: &Socket<H::Datagrams>| {
            let wanted = ports.get(&socket.guest).map(|listen| listen.at);
            socket.serves.is_some() && socket.serves != wanted
        };
        let gone: Vec<usize> = self
            .sockets
            .iter()
            .filter(|(_, socket)| is_gone(socket))
            .map(|(index, _)| index)
            .collect();
        gone.into_iter().for_each(|index| self.close(env, index, "closed"));
        for (guest, listen) in ports {
            if let Err(error) = self.bind(env, guest, listen.at) {
                failed.push((listen, error));
            }
        }
        failed
    }

    fn bind(
        &mut self,
        env: &mut Env<'_, H>,
        guest: SocketAddr,
        at: SocketAddr,
    ) -> Result<(), Errno> {
        let known = self.index.get(&guest).and_then(|index| self.sockets.get_mut(*index));
        let Some(socket) = known else {
            return self
                .insert(env, guest, Some(at), |host, token| host.serve(at, token))
                .map(drop);
        };
        // The guest has written from there before this was known: the socket
        // that it has for that is at every address.
        if socket.serves.is_none() && socket.datagrams.port()? != at.port() {
            return Err(Errno::ADDRINUSE);
        }
        socket.serves = Some(at);
        Ok(())
    }

    /// The ends of a datagram of the guest, as they have them who wrote to it.
    /// Who seems to be the gateway is answered from the guest's link-local
    /// address, where the gateway has one: it is the nearest to that.
    pub(super) fn answering(&self, env: &Env<'_, H>, ends: Ends) -> Ends {
        let Ends { guest, remote } = ends;
        if remote.ip() != env.fixed.gateway6 || self.index.contains_key(&guest) {
            return ends;
        }
        let address = env.fixed.link.address_for(remote.ip());
        let served = address.map(|ip| SocketAddr::new(ip, guest.port())).filter(|served| {
            let socket = self.index.get(served).and_then(|index| self.sockets.get(*index));
            socket.is_some_and(|socket| socket.peers.contains_key(&remote))
        });
        Ends { guest: served.unwrap_or(guest), remote }
    }
}
