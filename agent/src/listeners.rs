//! What listens for TCP in the guest's network namespace, for the host, which
//! then listens at the pod's addresses in its stead.
//!
//! The truth is the kernel's list of sockets; when it may have changed, a
//! [`bell`] rings. Nothing of this runs before the host first asks.

mod bell;
mod diag;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use sandbox_agent_protocol::agent::{Listener, ListenersResponse};
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep, sleep_until};

use bell::Bell;
use diag::{Diag, Listening};

/// Most listeners of a report: it stays far below the largest message, and so
/// does what a program costs that listens on all that there is.
pub const MAX_LISTENERS: usize = 4096;

/// Pause after the kernel did not answer, so that a lack of memory does not
/// become a busy loop.
const RETRY: Duration = Duration::from_millis(100);

/// Share of the time that may go into asking the kernel, as its inverse: a
/// program that opens and closes listeners in a loop gets no more of it.
const COST: u32 = 4;

/// What listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Report {
    /// Grows with each change; never 0, which a host says that has none.
    generation: u64,
    listening: BTreeSet<Listening>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Listeners {
    reports: OnceCell<watch::Receiver<Report>>,
}

impl Listeners {
    /// Returns when what listens is not what `generation` stands for.
    pub async fn other_than(&self, generation: u64) -> io::Result<ListenersResponse> {
        let started = self.reports.get_or_try_init(async || Watcher::start()).await?;
        let mut reports = started.clone();
        let report = reports.wait_for(|report| report.generation != generation).await;
        let report = report.map_err(io::Error::other)?;
        let listeners = report.listening.iter().map(listener).collect();
        Ok(ListenersResponse { generation: report.generation, listeners, ..Default::default() })
    }
}

fn listener(listening: &Listening) -> Listener {
    let ip = match listening.ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (port, v6_only) = (listening.port.into(), listening.v6_only);
    Listener { ip, port, v6_only, ..Default::default() }
}

/// Keeps the report true.
struct Watcher {
    diag: Diag,
    bell: Bell,
    reports: watch::Sender<Report>,
}

impl Watcher {
    fn start() -> io::Result<watch::Receiver<Report>> {
        let diag = Diag::open()?;
        // The bell first: what happens after the first look rings it.
        let bell = Bell::hang();
        let (reports, receiver) = watch::channel(Report::default());
        let mut watcher = Self { diag, bell, reports };
        watcher.look()?;
        tokio::spawn(watcher.run());
        Ok(receiver)
    }

    async fn run(mut self) {
        loop {
            self.bell.rung().await;
            let began = Instant::now();
            while self.look().is_err() {
                sleep(RETRY).await;
            }
            sleep_until(Instant::now() + began.elapsed() * COST).await;
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let mut listening = BTreeSet::new();
        self.diag.each(&mut |socket| {
            listening.insert(socket.listening);
            if listening.len() > MAX_LISTENERS {
                listening.pop_last();
            }
        })?;
        self.reports.send_if_modified(|report| {
            let changed = report.generation == 0 || report.listening != listening;
            if changed {
                *report = Report { generation: report.generation + 1, listening };
            }
            changed
        });
        Ok(())
    }
}
