//! What listens in the guest's network namespace, for the host, which then
//! listens at the pod's addresses in its stead: TCP sockets that listen, and
//! UDP sockets that [serve](udp).
//!
//! The truth is the kernel's list of sockets; when it may have changed, a
//! [`bell`] rings. Nothing of this runs before the host first asks.

mod bell;
mod bpf;
mod diag;
mod ring;
mod udp;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use sandbox_agent_protocol::agent::{Listener, ListenersResponse};
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep, sleep_until};

use bell::{Bell, Event};
use diag::{Diag, Listening};
use udp::Servers;

/// Most listeners of a report: it stays far below the largest message, and so
/// does what a program costs that listens on all that there is.
pub const MAX_LISTENERS: usize = 4096;

/// Pause after the kernel did not answer, so that a lack of memory does not
/// become a busy loop, or before it is asked again for what is not settled.
const RETRY: Duration = Duration::from_millis(100);

/// How long to pause after a look, in times of what it took: a program that
/// opens and closes listeners in a loop gets no more than a third of the time,
/// and what comes in a burst is one report.
const PAUSE: u32 = 2;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Report {
    /// Grows with each change; never 0, which stands for a host that has none.
    generation: u64,
    listening: BTreeSet<Listening>,
}

#[derive(Debug, Default)]
pub struct Listeners {
    reports: OnceCell<watch::Receiver<Report>>,
}

impl Listeners {
    /// Returns when what listens is not what `generation` stands for.
    pub async fn other_than(&self, generation: u64) -> io::Result<ListenersResponse> {
        let started = self.reports.get_or_try_init(async || Watcher::start(Bell::hang())).await?;
        let mut reports = started.clone();
        let report = reports.wait_for(|report| report.generation != generation).await;
        let report = report.map_err(io::Error::other)?;
        let listeners = report.listening.iter().map(listener).collect();
        Ok(ListenersResponse { generation: report.generation, listeners, ..Default::default() })
    }
}

/// Adds one; of too many the last ones go, whatever the order they come in.
fn keep(listening: &mut BTreeSet<Listening>, one: Listening) {
    listening.insert(one);
    if listening.len() > MAX_LISTENERS {
        listening.pop_last();
    }
}

fn listener(listening: &Listening) -> Listener {
    let ip = match listening.ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let Listening { udp, port, v6_only, .. } = *listening;
    Listener { ip, port: port.into(), v6_only, udp, ..Default::default() }
}

/// Keeps the report true.
struct Watcher {
    diag: Diag,
    bell: Bell,
    /// Sockets that the kernel may still list, but that cease to listen.
    ending: HashSet<u64>,
    servers: Servers,
    reports: watch::Sender<Report>,
}

impl Watcher {
    /// With a bell that hangs already: what happens after the first look rings.
    fn start(bell: Bell) -> io::Result<watch::Receiver<Report>> {
        let diag = Diag::open()?;
        let (reports, receiver) = watch::channel(Report::default());
        let (ending, servers) = (HashSet::new(), Servers::default());
        let mut watcher = Self { diag, bell, ending, servers, reports };
        watcher.look()?;
        tokio::spawn(watcher.run());
        Ok(receiver)
    }

    async fn run(mut self) {
        loop {
            let events = self.bell.rung().await;
            self.note(events);
            let began = Instant::now();
            while !self.look().is_ok_and(|settled| settled) {
                sleep(RETRY).await;
            }
            sleep_until(Instant::now() + began.elapsed() * PAUSE).await;
        }
    }

    fn note(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Began(cookie) => {
                    self.ending.remove(&cookie);
                    self.servers.name(cookie);
                }
                Event::Ends(cookie) => drop(self.ending.insert(cookie)),
            }
        }
    }

    /// Whether all that was seen is settled; otherwise another look is due.
    fn look(&mut self) -> io::Result<bool> {
        let mut listening = BTreeSet::new();
        let mut still = HashSet::new();
        let mut look = self.servers.look();
        self.diag.each(&mut |socket| {
            if self.ending.contains(&socket.cookie) {
                still.insert(socket.cookie);
            } else if !socket.listening.udp {
                keep(&mut listening, socket.listening);
            } else if let Some(serving) = look.serving(&socket) {
                keep(&mut listening, serving);
            }
        })?;
        let settled = look.done();
        self.ending = still;
        self.reports.send_if_modified(|report| {
            let changed = report.generation == 0 || report.listening != listening;
            if changed {
                *report = Report { generation: report.generation + 1, listening };
            }
            changed
        });
        Ok(settled)
    }
}

#[cfg(test)]
mod tests;
