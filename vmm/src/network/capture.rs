use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandbox_netstack::capture::Capture;
use sandbox_netstack::pcap::{Way, Writer};
use smoltcp::time::Instant;

/// Captures at a time: each copies every frame.
const CAPTURES: usize = 4;
/// Bytes that wait for a client. A slower client loses frames, and no other
/// client does.
const WAITING: usize = 1 << 20;

struct Waiting {
    writer: Writer<Vec<u8>>,
    lost: u64,
}

pub struct Tap {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bytes of a pcapng file that came since the last call, and the
    /// number of frames lost. Waits up to `timeout` for some.
    pub fn take(&self, timeout: Duration) -> (Vec<u8>, u64) {
        let waiting = self.lock();
        let empty = |waiting: &mut Waiting| waiting.writer.get_mut().is_empty();
        let waited = self.filled.wait_timeout_while(waiting, timeout, empty);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let lost = std::mem::take(&mut waiting.lost);
        (std::mem::take(waiting.writer.get_mut()), lost)
    }

    pub(super) fn frame(&self, wall: Duration, way: Way, frame: &[u8], comment: &str) {
        let mut waiting = self.lock();
        let is_full = waiting.writer.get_mut().len() + frame.len() > WAITING;
        if is_full || waiting.writer.frame(wall, way, frame, comment).is_err() {
            waiting.lost += 1;
        }
        self.filled.notify_one();
    }
}

type Open = Arc<Mutex<Vec<Arc<Tap>>>>;

pub struct Taps {
    open: Open,
    /// Time since 1970 at the stack's zero.
    epoch: Duration,
}

impl Taps {
    /// Without captures. `epoch` is the time since 1970 at the stack's zero.
    pub fn new(epoch: Duration) -> Self {
        Self { open: Open::default(), epoch }
    }

    /// Opens a capture that keeps `snap` bytes of each frame; none if there are
    /// too many.
    pub fn open(&self, interface: &str, snap: usize) -> Option<Arc<Tap>> {
        let mut writer = Writer::new(Vec::new(), interface).ok()?;
        writer.keep(snap);
        let mut open = lock(&self.open);
        if open.len() >= CAPTURES {
            return None;
        }
        let waiting = Mutex::new(Waiting { writer, lost: 0 });
        let tap = Arc::new(Tap { waiting, filled: Condvar::new() });
        open.push(tap.clone());
        Some(tap)
    }

    pub fn close(&self, tap: &Tap) {
        lock(&self.open).retain(|other| !std::ptr::eq(&**other, tap));
    }

    /// What the stack captures into, if any capture is open.
    pub fn capture(&self) -> Option<Arc<dyn Capture>> {
        let any = !lock(&self.open).is_empty();
        any.then(|| Arc::new(Tee { open: self.open.clone(), epoch: self.epoch }) as _)
    }
}

fn lock(open: &Open) -> MutexGuard<'_, Vec<Arc<Tap>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes each frame to every open capture.
struct Tee {
    open: Open,
    epoch: Duration,
}

impl Capture for Tee {
    fn frame(&self, now: Instant, way: Way, frame: &[u8], comment: &str) {
        let micros = u64::try_from(now.total_micros()).unwrap_or(0);
        let wall = self.epoch + Duration::from_micros(micros);
        for tap in &*lock(&self.open) {
            tap.frame(wall, way, frame, comment);
        }
    }
}
