//! The guest's listening sockets, reported by its agent and bound in the namespace.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox_agent_protocol::agent::{self, ListenersResponse};
use sandbox_vm_spec::network::{Listener, MAX_LISTENERS, Reply, Request, Transport};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::{Client, ClientError};
use crate::agent::{Agent, AgentError};
use crate::end::EndSignal;

/// Reports that are passed on at once, and how soon the next is after them: an
/// agent that a guest has taken over reports without end.
const BURST: u32 = 256;
const PAUSE: Duration = Duration::from_millis(20);
/// How long to wait after a call that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A listener that could not be bound: its address and the cause.
type Failed = (Transport, SocketAddr, String);

/// Follows the agent until the sandbox ends.
pub(super) async fn follow(agent: Agent, socket: PathBuf, ended: EndSignal) {
    tokio::select! {
        _ = ended.wait() => {}
        () = pass_on(agent, socket) => {}
    }
}

async fn pass_on(agent: Agent, socket: PathBuf) {
    let mut pace = Pace::new(Instant::now());
    let mut generation = 0;
    let mut bound = BTreeSet::new();
    let mut failed = Vec::new();
    loop {
        sleep_until(pace.next(Instant::now())).await;
        match agent.listeners(generation).await {
            Ok(report) => {
                generation = report.generation;
                let wanted = read(&report);
                if wanted != bound {
                    bound.clone_from(&wanted);
                    failed = tell(&socket, wanted, failed).await;
                }
            }
            // It has ended, or is about to.
            Err(AgentError::Lost { .. }) => return,
            Err(error) => {
                tracing::warn!("cannot get the guest's listeners from the agent: {error}");
                generation = 0;
                sleep_until(Instant::now() + AFTER_FAILURE).await;
            }
        }
    }
}

/// The valid listeners of a report, as many as are bound at most.
fn read(report: &ListenersResponse) -> BTreeSet<Listener> {
    report.listeners.iter().flat_map(listeners).take(MAX_LISTENERS).collect()
}

/// An IPv6 socket for every address takes IPv4 too, unless it says otherwise.
fn listeners(listener: &agent::Listener) -> impl Iterator<Item = Listener> + use<> {
    let transport = if listener.udp { Transport::Udp } else { Transport::Tcp };
    let port = u16::try_from(listener.port).ok().filter(|port| *port != 0);
    let ip = ip(&listener.ip).map(|ip| ip.to_canonical());
    let both = ip == Some(Ipv6Addr::UNSPECIFIED.into()) && !listener.v6_only;
    let ipv4 = both.then_some(IpAddr::from(Ipv4Addr::UNSPECIFIED));
    let addresses = ip.into_iter().chain(ipv4);
    addresses.filter_map(move |ip| Some(Listener { transport, at: SocketAddr::new(ip, port?) }))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let ipv4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    ipv4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Tells the `io` process. Returns what it could not bind.
async fn tell(socket: &Path, listeners: BTreeSet<Listener>, before: Vec<Failed>) -> Vec<Failed> {
    let socket = socket.to_owned();
    let request = Request::Listeners { listeners: listeners.into_iter().collect() };
    let told = spawn_blocking(move || Client::connect(&socket)?.ask(&request)).await;
    match told {
        Ok(Ok(Reply::Listening { failed })) => {
            for (transport, address, reason) in failed.iter().filter(|one| !before.contains(one)) {
                tracing::warn!(
                    "the guest listens on {transport} {address}, which cannot be bound in the \
                     sandbox's network namespace: {}",
                    reason.escape_default()
                );
            }
            failed
        }
        Ok(Ok(_)) => complain(&ClientError::Odd, before),
        Ok(Err(error)) => complain(&error, before),
        Err(_) => before,
    }
}

fn complain(error: &ClientError, before: Vec<Failed>) -> Vec<Failed> {
    tracing::warn!(
        "cannot send the guest's listeners to the io process: {}",
        crate::failure::chain(error)
    );
    before
}

/// When the next call may be made.
struct Pace {
    left: u32,
    earned: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { left: BURST, earned: now }
    }

    fn next(&mut self, now: Instant) -> Instant {
        let pauses = now.saturating_duration_since(self.earned).as_millis() / PAUSE.as_millis();
        let pauses = u32::try_from(pauses).unwrap_or(BURST).min(BURST);
        if pauses > 0 {
            self.left = (self.left + pauses).min(BURST);
            self.earned = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                now
            }
            None => {
                self.earned += PAUSE;
                self.earned
            }
        }
    }
}

#[cfg(test)]
mod tests;
