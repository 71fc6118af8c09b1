use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::line::{Line, What as Verdict};
use crate::policy::{Known, Protocol, Reason, Tier};

/// Most kinds of refusal that are told apart within a window. A guest that
/// scans makes a kind of every address, each with all of its names; beyond
/// this they are one.
const MAX_KINDS: usize = 256;

/// What makes two refusals the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    verdict: Verdict,
    tier: Option<Tier>,
    rule: Option<Arc<str>>,
    reason: Option<Reason>,
    proto: Option<Protocol>,
    dst: Option<SocketAddr>,
    names: Arc<[Known]>,
}

/// What a sum is of.
#[derive(Debug)]
pub(super) enum What {
    /// Refusals like this one.
    Line(Box<Line>),
    /// Lines that had no room of their own.
    Others,
}

/// A sum that is to be written.
#[derive(Debug)]
pub(super) struct Sum {
    pub what: What,
    pub count: u64,
}

/// Counts what is not written line by line.
#[derive(Debug, Default)]
pub(super) struct Sums {
    kinds: HashMap<Kind, (Line, u64, Duration)>,
    others: u64,
    others_since: Duration,
}

impl Sums {
    /// Whether it is the first of its kind in its window; else it is counted.
    pub fn is_first(&mut self, line: &Line, now: Duration, window: Duration) -> bool {
        let kind = Kind {
            verdict: line.verdict,
            tier: line.tier,
            rule: line.rule.clone(),
            reason: line.reason,
            proto: line.proto,
            dst: line.dst,
            names: line.names.clone(),
        };
        if let Some((_, count, since)) = self.kinds.get_mut(&kind) {
            // One that is over and holds nothing is none.
            if *count > 0 || now.saturating_sub(*since) < window {
                *count += 1;
                return false;
            }
            *since = now;
            return true;
        }
        if self.kinds.len() >= MAX_KINDS {
            self.other(now);
            return false;
        }
        self.kinds.insert(kind, (line.clone(), 0, now));
        true
    }

    /// Counts a line that was left out.
    pub fn other(&mut self, now: Duration) {
        if self.others == 0 {
            self.others_since = now;
        }
        self.others += 1;
    }

    /// The sums whose window is over; they start anew.
    pub fn due(&mut self, now: Duration, window: Duration) -> Vec<Sum> {
        let mut due = vec![];
        self.kinds.retain(|_, (line, count, since)| {
            let is_over = now.saturating_sub(*since) >= window;
            if is_over && *count > 0 {
                due.push(Sum { what: What::Line(Box::new(line.clone())), count: *count });
            }
            !is_over
        });
        if self.others > 0 && now.saturating_sub(self.others_since) >= window {
            due.push(Sum { what: What::Others, count: self.others });
            self.others = 0;
        }
        due
    }
}
