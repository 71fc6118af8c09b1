use std::io::{self, Read, Write};
use std::net::Shutdown;

/// Bytes moved at once, and most that wait for a slow reader.
pub const BLOCK: usize = 64 * 1024;
/// Blocks in a turn, so that the others have theirs.
const BLOCKS: usize = 8;

/// An end of a pipe.
pub trait End: Read + Write {
    fn finish(&self) -> io::Result<()>;
}

impl End for std::net::TcpStream {
    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl End for std::os::unix::net::UnixStream {
    fn finish(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// One direction of a connection. It holds memory only while bytes wait.
#[derive(Debug, Default)]
pub struct Pipe {
    rest: Vec<u8>,
    /// The source has sent its last byte.
    ended: bool,
    /// And its reader was told so.
    finished: bool,
}

impl Pipe {
    pub fn is_done(&self) -> bool {
        self.finished
    }

    /// Goes on when there is more to read.
    pub fn reads(&self) -> bool {
        self.rest.is_empty() && !self.ended
    }

    /// Goes on when there is room to write: bytes wait, or the end of them
    /// does, if a turn ended between reading it and telling it.
    pub fn writes(&self) -> bool {
        !self.rest.is_empty() || (self.ended && !self.finished)
    }

    /// Moves what can be moved now; answers how much arrived.
    pub fn pump(
        &mut self,
        source: &mut impl End,
        sink: &mut impl End,
        block: &mut [u8],
    ) -> io::Result<u64> {
        let mut moved = 0;
        for _ in 0..BLOCKS {
            moved += self.flush(sink)?;
            if !self.rest.is_empty() {
                return Ok(moved);
            }
            if self.ended {
                if !std::mem::replace(&mut self.finished, true) {
                    sink.finish()?;
                }
                return Ok(moved);
            }
            let read = match source.read(block) {
                Ok(read) => read,
                Err(error) if waits(&error) => return Ok(moved),
                Err(error) => return Err(error),
            };
            self.ended = read == 0;
            let written = write(sink, &block[..read])?;
            moved += written as u64;
            self.rest.extend_from_slice(&block[written..read]);
        }
        Ok(moved)
    }

    fn flush(&mut self, sink: &mut impl End) -> io::Result<u64> {
        let written = write(sink, &self.rest)?;
        self.rest.drain(..written);
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        Ok(written as u64)
    }
}

/// Writes as much as goes.
fn write(sink: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match sink.write(&bytes[done..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if waits(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// It will go on later, and something will tell when.
pub fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
