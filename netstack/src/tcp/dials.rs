//! Connections under way to the host: how many, and how fast.

use std::collections::HashMap;
use std::net::SocketAddr;

use smoltcp::time::{Duration, Instant};

/// Attempts at a time. Each holds a socket; stops a guest that dials into
/// nowhere from taking all of the process's.
pub const MOST: usize = 512;

/// Attempts at a time to one destination, so that one that does not answer
/// delays no dial to another.
pub const MOST_EACH: usize = 64;

/// Attempts per second that get no answer. Those that are answered, in
/// whatever way, give theirs back.
const RATE: u32 = 1_000;

/// How long an attempt may take before one that is new takes its place.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// How long an attempt lives. The guest's own TCP gives up later, and its next
/// SYN starts another.
pub const LIFE: Duration = Duration::from_secs(30);

/// What is under way.
#[derive(Debug)]
pub struct Dials {
    total: usize,
    each: HashMap<SocketAddr, usize>,
    tokens: u32,
    filled: Instant,
}

/// Why an attempt is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMany {
    /// To that destination.
    There,
    /// In all: one may be given up for it.
    Everywhere,
    /// In this second.
    Rate,
}

impl Default for Dials {
    fn default() -> Self {
        Self { total: 0, each: HashMap::new(), tokens: RATE, filled: Instant::ZERO }
    }
}

impl Dials {
    /// Whether that destination has as many as it may have.
    pub fn is_full(&self, to: SocketAddr) -> bool {
        self.each.get(&to).is_some_and(|each| *each >= MOST_EACH)
    }

    /// Counts an attempt in, if it may be made.
    pub fn begin(&mut self, to: SocketAddr, now: Instant) -> Result<(), TooMany> {
        if self.is_full(to) {
            return Err(TooMany::There);
        }
        if self.total >= MOST {
            return Err(TooMany::Everywhere);
        }
        let passed = (now - self.filled).total_millis();
        if passed > 0 {
            let more = u64::from(RATE) * passed / 1_000;
            self.tokens = u32::try_from(u64::from(self.tokens) + more).unwrap_or(RATE).min(RATE);
            self.filled = now;
        }
        self.tokens = self.tokens.checked_sub(1).ok_or(TooMany::Rate)?;
        self.total += 1;
        *self.each.entry(to).or_default() += 1;
        Ok(())
    }

    /// Counts an attempt out; it was answered, or not.
    pub fn end(&mut self, to: SocketAddr, answered: bool) {
        self.total = self.total.saturating_sub(1);
        if let Some(each) = self.each.get_mut(&to) {
            *each = each.saturating_sub(1);
            if *each == 0 {
                self.each.remove(&to);
            }
        }
        if answered {
            self.tokens = (self.tokens + 1).min(RATE);
        }
    }

    /// Attempts under way.
    pub fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests;
