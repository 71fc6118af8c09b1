//! The time at which each flow is next looked at.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use smoltcp::time::Instant;

/// One deadline per key, in order.
///
/// Most deadlines move later (each acknowledgement moves the retransmission),
/// so a later one is ignored: the key expires at its old deadline, and its owner
/// sets the later one then.
#[derive(Debug)]
pub struct Deadlines<K> {
    order: BTreeSet<(Instant, K)>,
    armed: HashMap<K, Instant>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), armed: HashMap::new() }
    }
}

impl<K: Copy + Ord + Hash> Deadlines<K> {
    /// Expires `key` no later than `at`.
    pub fn set(&mut self, key: K, at: Instant) {
        match self.armed.get(&key) {
            Some(armed) if *armed <= at => return,
            Some(armed) => {
                self.order.remove(&(*armed, key));
            }
            None => {}
        }
        self.armed.insert(key, at);
        self.order.insert((at, key));
    }

    pub fn clear(&mut self, key: K) {
        if let Some(armed) = self.armed.remove(&key) {
            self.order.remove(&(armed, key));
        }
    }

    /// Removes a key that has expired.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let (at, key) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.armed.remove(&key);
        Some(key)
    }

    #[cfg(test)]
    pub fn keys(&self) -> impl Iterator<Item = K> {
        assert_eq!(self.order.len(), self.armed.len());
        self.armed.keys().copied()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_expire_once_in_order_and_never_late() {
        let at = Instant::from_millis;
        let mut deadlines = Deadlines::default();
        deadlines.set('a', at(30));
        deadlines.set('b', at(10));
        deadlines.set('a', at(20));
        deadlines.set('b', at(40));
        deadlines.set('c', at(15));
        deadlines.clear('c');
        assert_eq!((deadlines.next(), deadlines.order.len()), (Some(at(10)), 2));
        assert_eq!(deadlines.pop(at(9)), None);
        assert_eq!(deadlines.pop(at(50)), Some('b'));
        assert_eq!(deadlines.pop(at(50)), Some('a'));
        assert_eq!(deadlines.pop(at(50)), None);
        assert!(deadlines.order.is_empty() && deadlines.armed.is_empty());
    }
}
