//! A capture in two files, of which the older makes room.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sandbox_netstack::capture::Capture;
use sandbox_netstack::pcap::{Ring, Way};
use smoltcp::time::Instant;

use crate::failure::Failure;

/// A capture that is written.
pub struct FileCapture {
    /// None after an error, which is reported once.
    ring: Mutex<Option<Ring<File>>>,
    /// The time since 1970 at the stack's zero.
    epoch: Duration,
}

impl FileCapture {
    /// Begins one at `path`, of at most `cap` bytes in both files.
    pub fn create(
        path: &Path,
        interface: &str,
        cap: usize,
        epoch: Duration,
    ) -> Result<Self, Failure> {
        let create = |path: &Path| File::create(path).map_err(Failure::file("create", path));
        let mut older = path.as_os_str().to_owned();
        older.push(".old");
        let files = (create(path)?, create(Path::new(&older))?);
        let ring =
            Ring::new(files.0, files.1, interface, cap).map_err(Failure::file("write", path))?;
        Ok(Self { ring: Mutex::new(Some(ring)), epoch })
    }
}

impl Capture for FileCapture {
    fn frame(&self, now: Instant, way: Way, frame: &[u8], comment: &str) {
        let micros = u64::try_from(now.total_micros()).unwrap_or(0);
        let wall = self.epoch + Duration::from_micros(micros);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &mut *ring else { return };
        if let Err(error) = open.frame(wall, way, frame, comment) {
            eprintln!("netstack-tap: cannot write the capture: {error}");
            *ring = None;
        }
    }
}
