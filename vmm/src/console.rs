//! The guest's serial console as a log file of bounded size: the beginning of
//! the boot and the latest lines are kept, what is between is cut out.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// Bytes gathered before they are written: a write per line and not per byte.
const LINE: usize = 256;
/// Latest bytes that survive a cut.
const TAIL: usize = 4096;
/// Stands where bytes were cut out.
const CUT: &[u8] = b"\n[... cut by sandbox: the console log is full ...]\n";
/// Least size of a log: room for some of the beginning, a cut and the tail.
const LEAST: u64 = 4 * TAIL as u64;

/// See the module. The first half of the log is the beginning; when the log
/// is full, the second half is cut down to its latest bytes.
#[derive(Debug)]
pub struct Console {
    file: File,
    max: u64,
    /// Bytes in the file.
    written: u64,
    line: Vec<u8>,
    /// Latest bytes written, up to twice [`TAIL`].
    tail: Vec<u8>,
}

impl Console {
    /// A log in `file` of at most `max` bytes, but at least a few pages.
    pub fn new(file: File, max: u64) -> Self {
        Self { file, max: max.max(LEAST), written: 0, line: Vec::new(), tail: Vec::new() }
    }

    /// Writes a last line that has no end.
    pub fn finish(&mut self) {
        self.write_line();
    }

    fn write_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.append(&line);
        self.tail.extend_from_slice(&line);
        if self.tail.len() > 2 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
        self.line = line;
        self.line.clear();
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.written + bytes.len() as u64 > self.max {
            self.cut();
        }
        // A full disk must not end the guest: the log is all that is lost.
        if self.write_to_end(bytes).is_ok() {
            self.written += bytes.len() as u64;
        }
    }

    /// A pipe, which has no places to write at, is read as it comes.
    fn write_to_end(&self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write_all_at(bytes, self.written) {
            Err(error) if error.raw_os_error() == Some(libc::ESPIPE) => {
                (&self.file).write_all(bytes)
            }
            result => result,
        }
    }

    fn cut(&mut self) {
        let keep = self.max / 2;
        if self.file.set_len(keep).is_err() {
            return;
        }
        self.written = keep;
        let from = self.tail.len().saturating_sub(TAIL);
        let kept = [CUT, &self.tail[from..]].concat();
        if self.file.write_all_at(&kept, keep).is_ok() {
            self.written += kept.len() as u64;
        }
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' || self.line.len() == LINE {
                self.write_line();
            }
        }
        Ok(bytes.len())
    }

    /// The serial port flushes after each byte: lines are written whole all
    /// the same.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;

    use super::*;

    fn log(max: u64, text: impl Iterator<Item = String>) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut console = Console::new(file.reopen().unwrap(), max);
        for line in text {
            console.write_all(line.as_bytes()).unwrap();
        }
        console.finish();
        let mut log = String::new();
        file.read_to_string(&mut log).unwrap();
        log
    }

    #[test]
    fn a_short_log_is_kept_whole_with_its_last_half_line() {
        let text = ["one\n".to_string(), "x".repeat(1000), "\nlogin: ".to_string()];
        assert_eq!(log(1 << 20, text.iter().cloned()), text.concat());
    }

    #[test]
    fn an_endless_log_keeps_its_beginning_and_its_end() {
        let max = 64 * 1024;
        for lines in [5_000, 20_000, 20_100, 20_200, 50_000] {
            let log = log(max, (0..lines).map(|n| format!("line {n}\n")));
            assert!(log.len() as u64 <= max, "{} bytes", log.len());
            assert!(log.starts_with("line 0\nline 1\n"));
            let end: String = (lines - 100..lines).map(|n| format!("line {n}\n")).collect();
            assert!(log.ends_with(&end), "{lines}");
            assert_eq!(log.contains("cut by sandbox"), lines > 5_000);
        }
    }

    #[test]
    fn a_pipe_gets_all() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut console = Console::new(File::from(std::os::fd::OwnedFd::from(writer)), 0);
        console.write_all(b"one\ntwo").unwrap();
        console.finish();
        drop(console);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo");
    }

    #[test]
    fn a_bound_that_is_too_small_is_raised() {
        let log = log(0, (0..10_000).map(|n| format!("line {n}\n")));
        assert!(log.len() as u64 <= LEAST && log.ends_with("line 9999\n"));
    }
}
