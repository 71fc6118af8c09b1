//! Which UDP sockets serve: those that are bound to a port which their program
//! has named. A client lets the kernel choose one, and nobody is to reach that
//! from outside who was not written to.
//!
//! The bell tells of ports that are named. Who missed it knows ports outside of
//! the range that the kernel chooses from: somebody must have named them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::RangeInclusive;

use super::diag::{Listening, Socket};

/// The range from which the kernel assigns ports, two numbers.
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The kernel's default of it.
const DEFAULT: RangeInclusive<u16> = 32_768..=60_999;

/// What is known of UDP sockets, by their cookies.
#[derive(Debug, Default)]
pub struct Servers {
    named: HashSet<u64>,
    /// Those that serve. One stays such that then takes one client for its own
    /// (`connect(2)`).
    serving: HashMap<u64, Listening>,
}

impl Servers {
    /// A socket was bound to a port that was named.
    pub fn name(&mut self, cookie: u64) {
        self.named.insert(cookie);
    }

    /// Begins to look at all sockets.
    pub fn look(&mut self) -> Look<'_> {
        let range = fs::read_to_string(RANGE).ok().and_then(|text| range(&text));
        let range = range.unwrap_or(DEFAULT);
        Look { known: self, seen: Self::default(), range, settled: true }
    }
}

/// A look at all sockets.
pub struct Look<'a> {
    known: &'a mut Servers,
    seen: Servers,
    range: RangeInclusive<u16>,
    settled: bool,
}

impl Look<'_> {
    /// Where a socket serves, if it does.
    pub fn serving(&mut self, socket: &Socket) -> Option<Listening> {
        let Socket { cookie, connected, listening } = *socket;
        let named = self.known.named.contains(&cookie);
        if named {
            self.seen.named.insert(cookie);
        }
        if listening.port == 0 {
            // The bell rings just before the kernel writes the port down.
            self.settled &= !named;
            return None;
        }
        let serving = if connected {
            // It has lost its own address by that, not its port.
            self.known.serving.get(&cookie).copied()
        } else {
            (named || !self.range.contains(&listening.port)).then_some(listening)
        };
        if let Some(serving) = serving {
            self.seen.serving.insert(cookie, serving);
        }
        serving
    }

    /// Forgets sockets that were not seen. Whether all that were have a port.
    pub fn done(self) -> bool {
        *self.known = self.seen;
        self.settled
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    Some(numbers.next()??..=numbers.next()??)
}

#[cfg(test)]
mod tests;
