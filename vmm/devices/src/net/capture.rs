use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandbox_netstack::pcap::{Way, Writer};
use sandbox_netstack::tape::Capture;
use smoltcp::time::Instant;

/// Captures at a time: each copies every frame.
const CAPTURES: usize = 4;
/// Bytes that wait for a client; the frames of one that is slower are lost to
/// it, and to nobody else.
const WAITING: usize = 1 << 20;

/// What was captured for one client and is not taken yet.
struct Waiting {
    writer: Writer<Vec<u8>>,
    lost: u64,
}

/// A client's end of a capture.
pub struct Tap {
    number: u64,
    waiting: Mutex<Waiting>,
    /// Something waits.
    filled: Condvar,
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a pcapng file that came since this was called last, and how
    /// many frames were lost. Waits for some, but not longer than this.
    pub fn take(&self, patience: Duration) -> (Vec<u8>, u64) {
        let waiting = self.lock();
        let empty = |waiting: &mut Waiting| waiting.writer.get_mut().is_empty();
        let waited = self.filled.wait_timeout_while(waiting, patience, empty);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let lost = std::mem::take(&mut waiting.lost);
        (std::mem::take(waiting.writer.get_mut()), lost)
    }

    pub(super) fn frame(&self, wall: Duration, way: Way, frame: &[u8], comment: &str) {
        let mut waiting = self.lock();
        if waiting.writer.get_mut().len() + frame.len() > WAITING {
            waiting.lost += 1;
        } else if waiting.writer.frame(wall, way, frame, comment).is_err() {
            // Memory takes everything.
            waiting.lost += 1;
        }
        self.filled.notify_one();
    }
}

/// Everybody who captures.
#[derive(Clone, Default)]
pub struct Taps(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    taps: Vec<Arc<Tap>>,
    last: u64,
}

impl Taps {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one, that keeps `snap` bytes of each frame; none if there are
    /// too many.
    pub fn open(&self, interface: &str, snap: usize) -> Option<Arc<Tap>> {
        let mut writer = Writer::new(Vec::new(), interface).ok()?;
        writer.keep(snap);
        let mut all = self.lock();
        if all.taps.len() >= CAPTURES {
            return None;
        }
        all.last += 1;
        let waiting = Mutex::new(Waiting { writer, lost: 0 });
        let tap = Arc::new(Tap { number: all.last, waiting, filled: Condvar::new() });
        all.taps.push(tap.clone());
        Some(tap)
    }

    /// Captures for this one no more.
    pub fn close(&self, tap: &Tap) {
        self.lock().taps.retain(|other| other.number != tap.number);
    }

    /// What captures for all of them, if there are any.
    pub fn capture(&self, epoch: Duration) -> Option<Box<dyn Capture>> {
        let any = !self.lock().taps.is_empty();
        any.then(|| Box::new(Split { taps: self.clone(), epoch }) as Box<dyn Capture>)
    }
}

/// Gives each frame to everybody.
struct Split {
    taps: Taps,
    /// Time since 1970 at the stack's zero.
    epoch: Duration,
}

impl Capture for Split {
    fn frame(&mut self, now: Instant, way: Way, frame: &[u8], comment: &str) {
        let micros = u64::try_from(now.total_micros()).unwrap_or(0);
        let wall = self.epoch + Duration::from_micros(micros);
        for tap in &self.taps.lock().taps {
            tap.frame(wall, way, frame, comment);
        }
    }
}
