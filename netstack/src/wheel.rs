//! Deadlines: when which flow wants to be looked at.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use smoltcp::time::Instant;

/// One deadline per key.
///
/// Deadlines mostly move later (a retransmission that was not needed), so a
/// later one costs nothing: the key comes up at its old time, and is set anew.
#[derive(Debug)]
pub struct Wheel<K> {
    order: BTreeSet<(Instant, K)>,
    armed: HashMap<K, Instant>,
}

impl<K> Default for Wheel<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), armed: HashMap::new() }
    }
}

impl<K: Copy + Ord + Hash> Wheel<K> {
    /// The key comes up no later than `at`.
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

    /// Forgets a key.
    pub fn clear(&mut self, key: K) {
        if let Some(armed) = self.armed.remove(&key) {
            self.order.remove(&(armed, key));
        }
    }

    /// Takes out a key whose time has come.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let (at, key) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.armed.remove(&key);
        Some(key)
    }

    /// Those that come up some time.
    #[cfg(test)]
    pub fn keys(&self) -> impl Iterator<Item = K> {
        assert_eq!(self.order.len(), self.armed.len());
        self.armed.keys().copied()
    }

    /// When the next key comes up.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_up_once_in_order_and_never_late() {
        let at = Instant::from_millis;
        let mut wheel = Wheel::default();
        wheel.set('a', at(30));
        wheel.set('b', at(10));
        wheel.set('a', at(20));
        wheel.set('b', at(40));
        wheel.set('c', at(15));
        wheel.clear('c');
        assert_eq!((wheel.next(), wheel.order.len()), (Some(at(10)), 2));
        assert_eq!(wheel.pop(at(9)), None);
        assert_eq!(wheel.pop(at(50)), Some('b'));
        assert_eq!(wheel.pop(at(50)), Some('a'));
        assert_eq!(wheel.pop(at(50)), None);
        assert!(wheel.order.is_empty() && wheel.armed.is_empty());
    }
}
