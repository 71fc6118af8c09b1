use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use super::message::Question;

/// Most questions that wait for an answer. More are dropped, so that a guest
/// that asks and asks costs a bounded amount.
pub const MAX_OPEN: usize = 512;
/// How long a question waits: resolvers give up after 5 seconds or less.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of a UDP source or a TCP connection of the guest. An answer fits a
/// question of its own channel only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u64);

/// What an answer must fit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub channel: Channel,
    pub server: SocketAddr,
    pub id: u16,
    pub question: Question,
}

/// Questions that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Open {
    since: HashMap<Key, (Duration, u64)>,
    /// The same by age.
    order: BTreeMap<(Duration, u64), Key>,
    count: u64,
}

impl Open {
    /// Notes a question; answers whether there was room.
    pub fn add(&mut self, key: Key, now: Duration) -> bool {
        self.forget_before(now.saturating_sub(PATIENCE));
        self.remove(&key);
        if self.since.len() >= MAX_OPEN {
            return false;
        }
        self.count += 1;
        self.since.insert(key.clone(), (now, self.count));
        self.order.insert((now, self.count), key);
        true
    }

    /// Takes a question out; answers whether it was open.
    pub fn take(&mut self, key: &Key, now: Duration) -> bool {
        self.forget_before(now.saturating_sub(PATIENCE));
        self.remove(key)
    }

    /// Forgets the questions of a channel that is closed.
    pub fn close(&mut self, channel: Channel) {
        self.order.retain(|_, key| key.channel != channel);
        self.since.retain(|key, _| key.channel != channel);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.since.len()
    }

    fn remove(&mut self, key: &Key) -> bool {
        let age = self.since.remove(key);
        age.is_some_and(|age| self.order.remove(&age).is_some())
    }

    fn forget_before(&mut self, limit: Duration) {
        while let Some(oldest) = self.order.first_entry().filter(|entry| entry.key().0 < limit) {
            self.since.remove(&oldest.remove());
        }
    }
}
