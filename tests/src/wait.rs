//! Waiting for what another process does, with an end.

use std::thread;
use std::time::{Duration, Instant};

/// `normal`, stretched on a machine where everything is slower:
/// `SANDBOX_TEST_SLOW=10` in the lab, where a hypervisor is emulated.
pub fn patience(normal: Duration) -> Duration {
    let factor = std::env::var("SANDBOX_TEST_SLOW").ok().and_then(|text| text.parse().ok());
    normal * factor.unwrap_or(1)
}

/// Whether this is a machine where everything takes a multiple of the usual.
pub fn in_lab() -> bool {
    patience(Duration::from_secs(1)) > Duration::from_secs(1)
}

/// Polls `probe` until it gives a value; panics with `what` when `limit` (see
/// [`patience`]) has passed. For states of other processes, which send us no
/// event: the time is a bound, and not a guess of how long it takes.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience(limit);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "not within {:?}: {what}", patience(limit));
        thread::sleep(Duration::from_millis(20));
    }
}
