//! The audit's writer. It has its own thread, since a disk may be slow and the
//! device's thread must not wait for it.

mod files;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use sandbox_netstack::watch::Sink;

pub use files::Files;

/// Most bytes that wait for the disk. The stack writes 100 lines a second at
/// most: with usual lines of 300 bytes this is half a minute of them.
const MAX_WAITING: usize = 1 << 20;
/// Stack of the thread.
const STACK: usize = 64 * 1024;

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    /// Lines lost: the queue was full, or the disk.
    lost: u64,
    /// Lines that come now are lost.
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Default)]
pub struct AuditQueue(Arc<Shared>);

impl Sink for AuditQueue {
    fn write(&mut self, lines: &[u8]) {
        let mut queue = self.0.lock();
        if queue.is_closed || queue.waiting.len() + lines.len() > MAX_WAITING {
            queue.lost += count(lines);
        } else {
            queue.waiting.extend_from_slice(lines);
            self.0.changed.notify_one();
        }
    }

    fn lost(&self) -> u64 {
        self.0.lock().lost
    }
}

pub struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts to write the lines of `queue` to `files`.
    pub fn start(queue: &AuditQueue, mut files: Files) -> io::Result<Self> {
        let shared = queue.0.clone();
        let write = move || {
            let mut lines = Vec::new();
            while take(&shared, &mut lines) {
                let lost = files.write(&lines);
                shared.lock().lost += lost;
            }
        };
        let thread = thread::Builder::new().name("audit".into()).stack_size(STACK).spawn(write)?;
        Ok(Self { shared: queue.0.clone(), thread })
    }

    /// Returns when every line that waits is written.
    pub fn finish(self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
        // The thread does not panic.
        let _ = self.thread.join();
    }
}

/// Waits for lines and takes them, in exchange for the memory of the last ones;
/// false when the queue is closed and empty.
fn take(shared: &Shared, lines: &mut Vec<u8>) -> bool {
    lines.clear();
    let waits = |queue: &mut Queue| queue.waiting.is_empty() && !queue.is_closed;
    let waited = shared.changed.wait_while(shared.lock(), waits);
    let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
    std::mem::swap(lines, &mut queue.waiting);
    !lines.is_empty()
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::time::Duration;

    use super::*;

    fn open(path: &std::path::Path) -> File {
        File::options().append(true).create(true).open(path).unwrap()
    }

    #[test]
    fn lines_are_written_before_the_writer_finishes() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        let files = Files::new([open(&paths[0]), open(&paths[1])], 1 << 20);
        let mut queue = AuditQueue::default();
        let writer = Writer::start(&queue, files).unwrap();
        let expected: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        expected.split_inclusive('\n').for_each(|line| queue.write(line.as_bytes()));
        writer.finish();
        assert_eq!(std::fs::read_to_string(&paths[0]).unwrap(), expected);
        queue.write(b"late\n");
        assert_eq!(queue.lost(), 1);
    }

    #[test]
    fn a_full_queue_and_a_full_disk_lose_lines_that_are_counted() {
        let mut queue = AuditQueue::default();
        // Nothing takes the lines.
        let block = vec![b'\n'; MAX_WAITING];
        queue.write(&block);
        queue.write(b"1\n2\n");
        assert_eq!(queue.lost(), 2);
        let full = || open(std::path::Path::new("/dev/full"));
        let writer = Writer::start(&queue, Files::new([full(), full()], 99)).unwrap();
        while queue.lost() == 2 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(queue.lost(), 2 + MAX_WAITING as u64);
        writer.finish();
    }
}
