//! The audit: one line of JSON for each verdict, and sums where there are too
//! many.
//!
//! A flow that is allowed has a line when it opens and one when it closes. A
//! refusal has a line at once; the same refusal again within ten seconds is
//! counted and comes as one line with a `count`, unless its rule has
//! `log = true`. Lines beyond a rate are not written but counted too, and the
//! count has a line of its own: nothing is silent.

mod line;
mod rate;
mod sums;
mod time;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dns::Blocked;
use crate::policy::{Denial, Direction, Ground, Known, Names, Permit, Protocol};
use line::{Line, What};
use rate::Rate;
use sums::{Sums, What as Summed};

/// Most bytes of lines that wait to be taken. Beyond it lines are counted and
/// dropped: the reader has stopped.
const MAX_WAITING: usize = 256 * 1024;
/// How often sums are written.
const WINDOW: Duration = Duration::from_secs(10);

/// The time of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since any start, never backwards: for rates.
    pub monotonic: Duration,
    /// Since 1970: for the line.
    pub wall: Duration,
}

/// The two ends of a flow: the client and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub from: SocketAddr,
    /// The server.
    pub to: SocketAddr,
}

/// What a flow carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes towards the guest.
    pub bytes_in: u64,
    /// Bytes from the guest.
    pub bytes_out: u64,
}

/// Counts what was written and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Verdicts that allowed.
    pub allowed: u64,
    /// Verdicts that denied.
    pub denied: u64,
    /// Queries that were answered in a server's stead.
    pub blocked: u64,
    /// Lines that were written.
    pub lines: u64,
    /// Lines that the rate left out; their number is in the lines.
    pub limited: u64,
    /// Lines that were lost on the way to the file.
    pub lost: u64,
}

/// Writes the lines of one pod.
#[derive(Debug)]
pub struct Audit {
    pod: String,
    rate: Rate,
    sums: Sums,
    waiting: Vec<u8>,
    counters: Counters,
    /// Of `counters.lost`: those that the sink lost.
    sink_lost: u64,
    /// `counters.lost` in the last line about it, and when that was written.
    reported: (u64, Duration),
}

impl Audit {
    /// For the pod of this name.
    pub fn new(pod: &str) -> Self {
        Self {
            pod: pod.to_owned(),
            rate: Rate::default(),
            sums: Sums::default(),
            waiting: vec![],
            counters: Counters::default(),
            sink_lost: 0,
            reported: (0, Duration::ZERO),
        }
    }

    /// A flow was allowed and begins.
    pub fn opened(&mut self, now: Now, flow: u64, ends: Ends, permit: &Permit) {
        self.counters.allowed += 1;
        let mut line = self.line(now, permit.direction(), permit.protocol(), ends);
        line.flow = Some(flow);
        line.ground(What::Allow, permit.ground(), permit.names());
        self.limited(now, line);
    }

    /// An allowed flow has ended; `close` is the reason.
    pub fn closed(
        &mut self,
        now: Now,
        flow: u64,
        ends: Ends,
        permit: &Permit,
        traffic: Traffic,
        close: &str,
    ) {
        let mut line = self.line(now, permit.direction(), permit.protocol(), ends);
        line.flow = Some(flow);
        line.ground(What::Allow, permit.ground(), permit.names());
        line.bytes_in = Some(traffic.bytes_in);
        line.bytes_out = Some(traffic.bytes_out);
        line.close = Some(close.to_owned());
        self.limited(now, line);
    }

    /// A flow was denied. `flow` is its number if it lived before.
    pub fn denied(&mut self, now: Now, flow: Option<u64>, ends: Ends, denial: &Denial) {
        self.counters.denied += 1;
        let mut line = self.line(now, denial.flow.direction, denial.flow.protocol, ends);
        line.flow = flow;
        line.ground(What::Deny, &denial.ground, &denial.names);
        self.summed(now, line, &denial.ground);
    }

    /// A query was answered in its server's stead.
    pub fn blocked(&mut self, now: Now, ends: Ends, protocol: Protocol, blocked: &Blocked) {
        self.counters.blocked += 1;
        let mut line = self.line(now, Direction::Egress, protocol, ends);
        line.ground(What::Block, &blocked.ground, &Names::default());
        line.names = Arc::new([Known::plain(blocked.name.clone())]);
        self.summed(now, line, &blocked.ground);
    }

    /// Writes the sums that are due. To be called about once a second.
    pub fn tick(&mut self, now: Now) {
        let due = self.sums.due(now.monotonic, WINDOW);
        for sum in due {
            let mut line = match sum.what {
                Summed::Line(line) => *line,
                Summed::Others => Line::of(&self.pod, now.wall),
            };
            line.ts = time::text(now.wall);
            line.count = Some(sum.count);
            self.write(line);
        }
    }

    /// Counts what the sink has lost since the pod's start. The line about it
    /// has the number of all lost lines and not of those since the last one: it
    /// may be lost itself.
    pub fn lost(&mut self, now: Now, by_sink: u64) {
        self.counters.lost += by_sink.saturating_sub(self.sink_lost);
        self.sink_lost = by_sink;
        let (reported, at) = self.reported;
        let is_due = reported == 0 || now.monotonic.saturating_sub(at) >= WINDOW;
        if self.counters.lost > reported && is_due {
            let mut line = Line::of(&self.pod, now.wall);
            line.verdict = What::Lost;
            line.count = Some(self.counters.lost);
            self.reported = (self.counters.lost, now.monotonic);
            self.write(line);
        }
    }

    /// Takes the lines that wait; each ends with a newline.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.waiting)
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn line(&self, now: Now, direction: Direction, protocol: Protocol, ends: Ends) -> Line {
        let mut line = Line::of(&self.pod, now.wall);
        line.dir = Some(direction);
        line.proto = Some(protocol);
        line.src = Some(ends.from);
        line.dst = Some(ends.to);
        line
    }

    /// The first of its kind at once, the others as a sum.
    fn summed(&mut self, now: Now, line: Line, ground: &Ground) {
        if ground.log || self.sums.is_first(&line, now.monotonic, WINDOW) {
            self.limited(now, line);
        }
    }

    fn limited(&mut self, now: Now, line: Line) {
        if self.rate.take(now.monotonic) {
            self.write(line);
        } else {
            self.counters.limited += 1;
            self.sums.other(now.monotonic);
        }
    }

    fn write(&mut self, line: Line) {
        let Ok(text) = serde_json::to_vec(&line) else { return };
        if self.waiting.len() + text.len() >= MAX_WAITING {
            self.counters.lost += 1;
            return;
        }
        self.waiting.extend(text);
        self.waiting.push(b'\n');
        self.counters.lines += 1;
    }
}

#[cfg(test)]
mod tests;
