//! Log lines on stderr, which is the shim's log.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};

/// Most lines in [`WINDOW`]: what a guest provokes must not fill the host's disk.
const MAX_LINES: u32 = 50;
/// See [`MAX_LINES`].
const WINDOW: Duration = Duration::from_secs(10);
/// Longest line, for the same reason.
const MAX_LINE: usize = 2048;

struct Logger {
    process: &'static str,
    window: Mutex<Option<Window>>,
}

struct Window {
    began: Instant,
    lines: u32,
    dropped: u64,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Write it, after telling how many were dropped before it.
    Write {
        dropped: u64,
    },
    Drop,
}

/// Sends everything logged at level info and above to stderr, a line each,
/// named after `process`.
pub fn install(process: &'static str) {
    let logger = Box::leak(Box::new(Logger { process, window: Mutex::new(None) }));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Window {
    fn admit(window: &mut Option<Window>, now: Instant) -> Verdict {
        match window {
            Some(open) if now.duration_since(open.began) < WINDOW => {
                if open.lines == MAX_LINES {
                    open.dropped += 1;
                    return Verdict::Drop;
                }
                open.lines += 1;
                Verdict::Write { dropped: 0 }
            }
            _ => {
                let dropped = window.as_ref().map_or(0, |w| w.dropped);
                *window = Some(Window { began: now, lines: 1, dropped: 0 });
                Verdict::Write { dropped }
            }
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if let Verdict::Write { dropped } = Window::admit(&mut window, Instant::now()) {
            if dropped > 0 {
                self.write(&format!("sandbox-vmm {}: {dropped} lines left out", self.process));
            }
            let level = record.level().as_str().to_ascii_lowercase();
            self.write(&format!("sandbox-vmm {}: {level}: {}", self.process, record.args()));
        }
    }

    fn flush(&self) {}
}

impl Logger {
    /// One write each, so that lines of several processes do not mix.
    fn write(&self, text: &str) {
        let mut line: Vec<u8> = text.replace(['\n', '\r'], " ").into_bytes();
        line.truncate(MAX_LINE);
        line.push(b'\n');
        // A log that cannot be written to has nowhere to be told.
        let _ = std::io::stderr().write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let (mut window, now) = (None, Instant::now());
        let written = (0..1000)
            .filter(|_| Window::admit(&mut window, now) == Verdict::Write { dropped: 0 })
            .count();
        assert_eq!(written, MAX_LINES as usize);
        let later = now + WINDOW;
        let dropped = 1000 - u64::from(MAX_LINES);
        assert_eq!(Window::admit(&mut window, later), Verdict::Write { dropped });
        assert_eq!(Window::admit(&mut window, later), Verdict::Write { dropped: 0 });
    }
}
