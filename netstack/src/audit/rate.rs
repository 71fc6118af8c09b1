use std::time::Duration;

/// Lines of a second, and of a burst.
pub(super) const PER_SECOND: u64 = 100;

/// A bucket of lines that fills up with time.
#[derive(Debug)]
pub(super) struct Rate {
    /// In thousandths of a line.
    left: u64,
    filled: Duration,
}

impl Default for Rate {
    fn default() -> Self {
        Self { left: PER_SECOND * 1000, filled: Duration::ZERO }
    }
}

impl Rate {
    /// Takes a line's worth, if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled).as_millis();
        if passed > 0 {
            let fresh = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(fresh).min(PER_SECOND * 1000);
            self.filled = now;
        }
        match self.left.checked_sub(1000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}
