use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Least time between two errors in the log.
const QUIET: Duration = Duration::from_secs(60);

/// The audit's two files. One is written until it is full, then the other is
/// emptied and written: the disk holds at most both.
#[derive(Debug)]
pub struct Files {
    files: [File; 2],
    current: usize,
    /// Bytes in the current one.
    written: u64,
    most: u64,
    logged: Option<Instant>,
}

impl Files {
    /// Continues with the file that was written last, else with the first. An
    /// empty file was not written, however late it was created.
    pub fn new(files: [File; 2], most: u64) -> Self {
        let written = |file: &File| {
            let found = file.metadata().ok().filter(|found| found.len() > 0)?;
            found.modified().ok()
        };
        let current = usize::from(written(&files[1]) > written(&files[0]));
        let written = files[current].metadata().map_or(0, |found| found.len());
        Self { files, current, written, most, logged: None }
    }

    /// Writes whole lines; returns how many were lost. An error is logged and
    /// is no other error: the network works without a disk.
    pub fn write(&mut self, lines: &[u8]) -> u64 {
        let Err(error) = self.append(lines) else { return 0 };
        let lost = super::count(lines);
        if self.logged.is_none_or(|logged| logged.elapsed() >= QUIET) {
            tracing::error!("net: cannot write {lost} lines of the audit: {error}");
            self.logged = Some(Instant::now());
        }
        lost
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        if self.written > 0 && self.written + length > self.most {
            let other = 1 - self.current;
            self.files[other].set_len(0)?;
            (self.current, self.written) = (other, 0);
        }
        let mut file = &self.files[self.current];
        if let Err(error) = file.write_all(lines) {
            // Half a line would spoil the next one.
            file.set_len(self.written)?;
            return Err(error);
        }
        self.written += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::OpenOptions;
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> File {
        OpenOptions::new().append(true).create(true).open(path).unwrap()
    }

    #[test]
    fn the_first_file_is_the_first_whenever_they_were_made() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        let files = [open(&paths[0]), open(&paths[1])];
        let later = files[0].metadata().unwrap().modified().unwrap() + Duration::from_secs(1);
        files[1].set_modified(later).unwrap();
        Files::new(files, 25).write(b"line\n");
        assert_eq!(std::fs::read_to_string(&paths[0]).unwrap(), "line\n");
    }

    #[test]
    fn files_alternate_and_keep_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        let mut audit = Files::new([open(&paths[0]), open(&paths[1])], 25);
        for number in 0..5 {
            audit.write(format!("line {number:04}\n").as_bytes());
        }
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&paths[1]), "line 0002\nline 0003\n");
        assert_eq!(read(&paths[0]), "line 0004\n");
        // Another process goes on where this one ended.
        let mut audit = Files::new([open(&paths[0]), open(&paths[1])], 25);
        audit.write(b"line 0005\nline 0006\n");
        assert_eq!(read(&paths[1]), "line 0005\nline 0006\n");
        assert_eq!(read(&paths[0]), "line 0004\n");
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let mut audit =
            Files::new([open(Path::new("/dev/full")), open(Path::new("/dev/full"))], 99);
        assert_eq!((audit.write(b"1\n2\n"), audit.write(b"3\n")), (2, 1));
        assert_eq!(audit.written, 0);
    }
}
