//! The rate of this machine's time stamp counter. An emulated guest reads the
//! same counter, and would have to measure it against an emulated timer: that
//! fails where the host is busy, and leaves the guest with a clock of 4 ms.

use std::arch::x86_64::_rdtsc;
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

/// Between the two readings: each is good for some 100 ns, so that the rate is
/// good for 10 in a million.
const SPAN: Duration = Duration::from_millis(10);
/// Tries for a reading that nothing came between.
const TRIES: usize = 8;
/// What a counter can run at. Anything else is a host that makes it up, and
/// its guest had better measure by itself.
const PLAUSIBLE_KHZ: RangeInclusive<u64> = 100_000..=10_000_000;

/// The counter, and the time at which it was so.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    ticks: u64,
    at: Instant,
}

impl Reading {
    pub fn now() -> Self {
        let mut best = Self::bracketed();
        for _ in 1..TRIES {
            let next = Self::bracketed();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    /// A reading, and how many ticks it took.
    fn bracketed() -> (u64, Self) {
        let before = ticks();
        let at = Instant::now();
        let took = ticks().wrapping_sub(before);
        (took, Self { ticks: before.wrapping_add(took / 2), at })
    }

    /// The rate since this reading in kHz, after [`SPAN`] at the earliest.
    /// `None` if it is none that a counter can have.
    pub fn khz(self) -> Option<u32> {
        thread::sleep(SPAN.saturating_sub(self.at.elapsed()));
        self.rate_at(Self::now())
    }

    fn rate_at(self, later: Self) -> Option<u32> {
        let nanos = u64::try_from(later.at.duration_since(self.at).as_nanos()).ok()?;
        let ticks = later.ticks.checked_sub(self.ticks)?;
        let khz = ticks.checked_mul(1_000_000)?.checked_div(nanos)?;
        u32::try_from(khz).ok().filter(|_| PLAUSIBLE_KHZ.contains(&khz))
    }
}

fn ticks() -> u64 {
    // SAFETY: every 64-bit x86 processor has the instruction.
    unsafe { _rdtsc() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_rate_is_ticks_over_time() {
        let first = Reading { ticks: 1_000, at: Instant::now() };
        let after = |ticks, nanos| Reading { ticks, at: first.at + Duration::from_nanos(nanos) };
        assert_eq!(first.rate_at(after(1_000 + 24_000_000, 10_000_000)), Some(2_400_000));
        assert_eq!(first.rate_at(after(1_000 + 10_000_000, 10_000_000)), Some(1_000_000));
        assert_eq!(first.rate_at(after(1_000, 10_000_000)), None, "stands still");
        assert_eq!(first.rate_at(after(0, 10_000_000)), None, "runs backwards");
        assert_eq!(first.rate_at(after(1 << 40, 10_000_000)), None, "too fast");
        assert_eq!(first.rate_at(after(u64::MAX, 1)), None, "overflows");
        assert_eq!(first.rate_at(after(5_000, 0)), None, "no time");
    }

    #[test]
    fn two_measurements_of_this_machine_agree() {
        let [one, other] = [0, 1].map(|_| f64::from(Reading::now().khz().unwrap()));
        assert!((one / other - 1.0).abs() < 0.01, "{one} kHz and {other} kHz");
    }
}
