//! Rings: how much memory connections may have, and the reuse of it.

use super::endpoint::Sockets;

/// Sizes of rings, and how much of the budget must be free for one to be
/// given, as a divisor. One below a power of two, so that a window scaled as
/// smoltcp does it never reaches past the ring: that of its SYN is not scaled
/// when written, but is when read back.
const CLASSES: [(usize, usize); 3] = [(262_143, 2), (65_535, 4), (16_384, 8)];

/// Ring size when the budget is used up; every flow gets at least this. Two
/// full segments of an MTU of 1,500; all of an idle flow is in 8 KiB.
const LEAST: usize = 2_920;

/// Sockets kept for reuse, of each size. More would be memory that an idle pod
/// does not give back.
const KEPT: usize = 16;

/// Memory for rings.
pub struct Pool {
    budget: usize,
    used: usize,
    kept: Vec<Sockets>,
}

impl Pool {
    /// May have this many bytes in rings larger than the least.
    pub fn new(budget: usize) -> Self {
        Self { budget, used: 0, kept: Vec::new() }
    }

    /// A socket with rings as large as there is room for.
    pub fn take(&mut self) -> Sockets {
        let free = self.budget.saturating_sub(self.used);
        let ring = CLASSES
            .iter()
            .find(|(ring, share)| free >= self.budget / share && free >= 2 * ring)
            .map_or(LEAST, |(ring, _)| *ring);
        if ring != LEAST {
            self.used += 2 * ring;
        }
        match self.kept.iter().position(|kept| kept.ring == ring) {
            Some(at) => self.kept.swap_remove(at),
            None => Sockets::new(ring),
        }
    }

    /// Takes one back.
    pub fn put(&mut self, sockets: Sockets) {
        if sockets.ring != LEAST {
            self.used = self.used.saturating_sub(2 * sockets.ring);
        }
        if self.kept.iter().filter(|kept| kept.ring == sockets.ring).count() < KEPT {
            self.kept.push(sockets);
        }
    }

    /// Bytes in rings larger than the least.
    pub fn used(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::shift;
    use super::*;

    /// R58, group 18: rings get smaller as the budget goes, are given back, and
    /// the budget holds however many flows come.
    #[test]
    fn rings_fit_the_budget() {
        let mut pool = Pool::new(4 << 20);
        let taken: Vec<_> = (0..4096).map(|_| pool.take()).collect();
        assert!(pool.used() <= 4 << 20);
        let sizes: Vec<_> = taken.iter().map(|sockets| sockets.ring).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b));
        for (class, _) in CLASSES {
            assert!(sizes.contains(&class), "{class}");
        }
        taken.into_iter().for_each(|sockets| pool.put(sockets));
        assert_eq!((pool.used(), pool.take().ring), (0, CLASSES[0].0));
        assert!(pool.kept.len() <= KEPT * 4);
    }

    #[test]
    fn scaled_windows_are_within_the_ring() {
        for (ring, _) in CLASSES {
            assert!(usize::from(u16::MAX) << shift(ring) <= ring.max(65_535), "{ring}");
        }
        assert_eq!((shift(65_535), shift(262_143), shift(LEAST)), (0, 2, 0));
    }
}
