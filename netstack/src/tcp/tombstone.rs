//! Connections that are over: what a late segment of theirs is answered with.

use std::collections::{HashMap, VecDeque};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpControl;

use super::Key;
use super::segment::{self, FIN, RST, Segment, ahead};

/// How long a connection is remembered: as long as smoltcp's own TIME-WAIT.
const LIFE: Duration = Duration::from_secs(10);

/// Connections remembered. Stops a guest that opens and closes as fast as it
/// can from filling memory; who is forgotten early answers with a reset.
const MOST: usize = 8_192;

#[derive(Clone, Copy, Debug)]
struct Stone {
    next: u32,
    acked: u32,
    until: Instant,
}

/// What becomes of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Late {
    /// There is no such connection.
    Unknown,
    /// It opens another one.
    Reopens,
    /// There is nothing to be said.
    Silence,
    /// This is the answer.
    Answer(Vec<u8>),
}

/// Those that are over.
#[derive(Debug, Default)]
pub struct Tombstones {
    stones: HashMap<Key, Stone>,
    order: VecDeque<(Instant, Key)>,
}

impl Tombstones {
    /// Remembers a connection by the next number it would have sent, and what
    /// it had acknowledged.
    pub fn add(&mut self, key: Key, next: u32, acked: u32, now: Instant) {
        self.forget(now);
        let until = now + LIFE;
        self.stones.insert(key, Stone { next, acked, until });
        self.order.push_back((until, key));
    }

    fn forget(&mut self, now: Instant) {
        while let Some((until, key)) = self.order.front().copied() {
            if until > now && self.order.len() < MOST {
                return;
            }
            self.order.pop_front();
            if self.stones.get(&key).is_some_and(|stone| stone.until <= until) {
                self.stones.remove(&key);
            }
        }
    }

    /// Judges a segment that belongs to no connection.
    pub fn judge(&mut self, key: &Key, found: &Segment, now: Instant) -> Late {
        self.forget(now);
        let Some(stone) = self.stones.get(key) else { return Late::Unknown };
        if found.opens() {
            if ahead(found.seq, stone.acked) <= 0 {
                return Late::Silence;
            }
            self.stones.remove(key);
            return Late::Reopens;
        }
        if found.has(RST) {
            self.stones.remove(key);
            return Late::Silence;
        }
        // Only what takes sequence numbers is answered, or two ends that
        // disagree would acknowledge each other for ever.
        if !found.has(FIN) && found.payload == 0 {
            return Late::Silence;
        }
        let (guest, remote) = (key.guest.ip(), key.remote.ip());
        let (next, acked) = (stone.next, Some(stone.acked));
        Late::Answer(segment::reply(found, guest, remote, TcpControl::None, next, acked))
    }
}
