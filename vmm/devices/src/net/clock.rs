use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Instant as Monotonic, SystemTime, UNIX_EPOCH};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use smoltcp::time::{Duration, Instant};

/// How often the stack ticks.
const SECOND: Duration = Duration::from_secs(1);
/// Shortest time to wait: a timer of zero would be none.
const SHORTEST: Duration = Duration::from_micros(1);

/// The stack's time, from when the device was made, and the timer that it
/// waits by.
pub struct Clock {
    zero: Monotonic,
    /// Time since 1970 at `zero`.
    epoch: std::time::Duration,
    timer: OwnedFd,
    /// When it expires.
    armed: Option<Instant>,
    ticked: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self {
            zero: Monotonic::now(),
            epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
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

    /// Whether a second has passed since the last time that this returned true.
    pub fn second(&mut self, now: Instant) -> bool {
        let passed = now >= self.ticked + SECOND;
        if passed {
            self.ticked = now;
        }
        passed
    }

    /// Arms the timer for `next`, or for the next second. It may expire early.
    pub fn wake_at(&mut self, next: Option<Instant>) -> io::Result<()> {
        let tick = self.ticked + SECOND;
        let next = next.map_or(tick, |next| next.min(tick));
        if self.armed.is_some_and(|armed| armed <= next) {
            return Ok(());
        }
        let now = self.now();
        let wait = if next > now { next - now } else { SHORTEST };
        self.set(wait.max(SHORTEST).into())?;
        self.armed = Some(next);
        Ok(())
    }

    /// The timer has expired.
    pub fn rang(&mut self) {
        // EAGAIN means that another call has read the expiration.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        self.armed = None;
    }

    /// Disarms the timer.
    pub fn forget(&mut self) {
        let _ = self.set(std::time::Duration::ZERO);
        self.armed = None;
    }

    /// Arms the timer; a time of zero disarms it.
    fn set(&self, wait: std::time::Duration) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = wait.try_into().map_err(io::Error::other)?;
        let wait = Itimerspec { it_interval: zero, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &wait)?;
        Ok(())
    }
}

impl AsRawFd for Clock {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}
