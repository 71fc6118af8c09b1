use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Instant as Monotonic, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use smoltcp::time::{Duration, Instant};

/// How often what is told in sums is told.
const SECOND: Duration = Duration::from_secs(1);
/// Shortest time to wait: a timer of zero would be none.
const SHORTEST: Duration = Duration::from_micros(1);

/// The stack's time, from when the device was made, and the timer that it
/// waits by.
pub struct Clock {
    zero: Monotonic,
    /// Time since 1970 at `zero`.
    epoch: std::time::Duration,
    timer: TimerFd,
    /// When it rings.
    armed: Option<Instant>,
    ticked: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self {
            zero: Monotonic::now(),
            epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?,
            armed: None,
            ticked: Instant::ZERO,
        })
    }

    /// The time.
    pub fn now(&self) -> Instant {
        let micros = self.zero.elapsed().as_micros();
        Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// Time since 1970 at [`Instant::ZERO`].
    pub fn epoch(&self) -> std::time::Duration {
        self.epoch
    }

    /// Whether a second has passed since this last said so.
    pub fn second(&mut self, now: Instant) -> bool {
        let passed = now >= self.ticked + SECOND;
        if passed {
            self.ticked = now;
        }
        passed
    }

    /// Rings at this time at the latest, and every second. It may ring early.
    pub fn wake_at(&mut self, next: Option<Instant>) -> io::Result<()> {
        let tick = self.ticked + SECOND;
        let next = next.map_or(tick, |next| next.min(tick));
        if self.armed.is_some_and(|armed| armed <= next) {
            return Ok(());
        }
        let now = self.now();
        let wait = if next > now { next - now } else { SHORTEST };
        let wait = TimeSpec::from_duration(wait.max(SHORTEST).into());
        self.timer.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?;
        self.armed = Some(next);
        Ok(())
    }

    /// It rang.
    pub fn rang(&mut self) {
        // It does not wait: without an expiration there is nothing to read.
        let _ = self.timer.wait();
        self.armed = None;
    }

    /// It need not ring any more.
    pub fn forget(&mut self) {
        let _ = self.timer.unset();
        self.armed = None;
    }
}

impl AsRawFd for Clock {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }
}
