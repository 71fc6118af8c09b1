//! Bytes in bulk, and whether they arrived.

use std::io::{Read, Write, stdin, stdout};

use sha2::{Digest, Sha256};

/// Number and SHA-256 of bytes.
#[derive(Default)]
pub struct Sum {
    hash: Sha256,
    total: usize,
}

impl Sum {
    /// Takes more of them.
    pub fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.total += bytes.len();
    }

    /// `<number>,<SHA-256>`.
    pub fn told(self) -> String {
        let hex: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{},{hex}", self.total)
    }
}

/// Prints the number of bytes on stdin and their SHA-256.
pub fn stdin_sum() -> anyhow::Result<()> {
    let mut sum = Sum::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = stdin().read(&mut buffer)?;
        if read == 0 {
            break;
        }
        sum.add(&buffer[..read]);
    }
    writeln!(stdout(), "{}", sum.told().replace(',', " "))?;
    Ok(())
}

/// Writes `bytes` bytes to stdout, as fast as they are taken.
pub fn pour(bytes: usize) -> anyhow::Result<()> {
    const CHUNK: usize = 1 << 16;
    for start in (0..bytes).step_by(CHUNK) {
        let chunk: Vec<u8> = (start..bytes.min(start + CHUNK)).map(pattern).collect();
        stdout().write_all(&chunk)?;
    }
    stdout().flush()?;
    Ok(())
}

/// Byte number `index` of what [`pour`] writes: every value occurs, and a
/// stretch that is lost or doubled shifts what follows.
pub fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13) as u8
}
