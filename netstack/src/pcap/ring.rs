use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::time::Duration;

use super::writer::{MAX_SNAP, Way, head, packet};

/// One of the two files of a ring.
pub trait Segment: Write {
    /// Forgets what was written and starts anew.
    fn restart(&mut self) -> io::Result<()>;
}

impl Segment for File {
    fn restart(&mut self) -> io::Result<()> {
        self.set_len(0)?;
        self.seek(SeekFrom::Start(0)).map(|_| ())
    }
}

/// A capture that keeps the last frames: two files, each of which is a capture
/// of its own. When one is full the other starts anew, so between half of the
/// cap and the cap is kept.
#[derive(Debug)]
pub struct Ring<S> {
    current: S,
    other: S,
    interface: String,
    /// Most bytes of one file.
    cap: usize,
    written: usize,
}

impl<S: Segment> Ring<S> {
    /// Starts with the first file; both together take at most `cap` bytes,
    /// unless a single frame is longer than half of it.
    pub fn new(first: S, second: S, interface: &str, cap: usize) -> io::Result<Self> {
        let interface = interface.to_owned();
        let mut ring = Self { current: first, other: second, interface, cap: cap / 2, written: 0 };
        ring.begin()?;
        Ok(ring)
    }

    /// Writes a frame with the time since 1970 and a comment.
    pub fn frame(
        &mut self,
        wall: Duration,
        way: Way,
        frame: &[u8],
        comment: &str,
    ) -> io::Result<()> {
        let block = packet(wall, way, frame, comment, MAX_SNAP);
        if self.written + block.len() > self.cap {
            std::mem::swap(&mut self.current, &mut self.other);
            self.begin()?;
        }
        self.current.write_all(&block)?;
        self.written += block.len();
        Ok(())
    }

    /// The file that is written, and the one before it.
    pub fn segments(&self) -> (&S, &S) {
        (&self.current, &self.other)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.current.restart()?;
        let head = head(&self.interface);
        self.current.write_all(&head)?;
        self.written = head.len();
        Ok(())
    }
}
