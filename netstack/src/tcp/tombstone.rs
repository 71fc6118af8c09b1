//! Connections that are over: what a late segment of theirs is answered with.

use std::collections::{HashMap, VecDeque};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpControl;

use super::Key;
use super::segment::{self, RST, Segment, ahead};

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
    /// No answer.
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
        let Some(stone) = self.stones.get(key).copied() else { return Late::Unknown };
        if found.opens() && ahead(found.seq, stone.acked) > 0 {
            self.stones.remove(key);
            return Late::Reopens;
        }
        if found.has(RST) {
            self.stones.remove(key);
        }
        answer(key, found, stone.next, stone.acked).map_or(Late::Silence, Late::Answer)
    }
}

/// The answer to a segment of a connection that both ends have ended: it is
/// told where the connection stands, a SYN with an old number as well
/// (RFC 9293, 3.10.7.4). A reset changes nothing any more (RFC 1337), and only
/// what takes sequence numbers is answered, or two ends that disagree would
/// acknowledge each other for ever.
pub fn answer(key: &Key, found: &Segment, next: u32, acked: u32) -> Option<Vec<u8>> {
    let (guest, remote) = (key.guest.ip(), key.remote.ip());
    (!found.has(RST) && found.length() != 0)
        .then(|| segment::reply(found, guest, remote, TcpControl::None, next, Some(acked)))
}
