use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::SystemTime;

/// Most bytes of a line: the process writes shorter ones, unless its guest has
/// taken it over.
const MAX_LINE: usize = 64 * 1024;

/// Most bytes taken of a file at once; it has a bound of its own, which a
/// process that was taken over need not keep.
const MAX_READ: u64 = 16 << 20;

/// Reads two files that are written in turns, in the order of the writing.
pub struct Tail {
    halves: [Half; 2],
}

struct Half {
    path: PathBuf,
    offset: u64,
    /// Of a line whose end is not written yet.
    begun: Vec<u8>,
}

impl Tail {
    /// From their beginning.
    pub fn new(paths: [PathBuf; 2]) -> Self {
        Self { halves: paths.map(|path| Half { path, offset: 0, begun: Vec::new() }) }
    }

    /// The lines that have come since the last time.
    pub fn read(&mut self) -> io::Result<Vec<String>> {
        let mut times = [SystemTime::UNIX_EPOCH; 2];
        for (half, time) in self.halves.iter().zip(&mut times) {
            *time = std::fs::metadata(&half.path)
                .and_then(|file| file.modified())
                .map_err(|e| half.named(e))?;
        }
        let [first, second] = &mut self.halves;
        let order = if times[0] <= times[1] { [first, second] } else { [second, first] };
        let mut lines = Vec::new();
        for half in order {
            half.read(&mut lines).map_err(|error| half.named(error))?;
        }
        Ok(lines)
    }
}

impl Half {
    fn named(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", self.path.display()))
    }

    fn read(&mut self, lines: &mut Vec<String>) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.offset {
            // It was emptied, to be written again.
            (self.offset, self.begun) = (0, Vec::new());
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        self.offset += file.take(MAX_READ).read_to_end(&mut bytes)? as u64;
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let room = MAX_LINE.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.begun).trim_end().to_owned();
                lines.push(line);
                self.begun.clear();
            }
        }
        Ok(())
    }
}
