//! Bytes in bulk, and whether they arrived.

use std::io::{Read, Write, stdin, stdout};

use sha2::{Digest, Sha256};

/// Prints the number of bytes on stdin and their SHA-256.
pub fn stdin_sum() -> anyhow::Result<()> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let read = stdin().read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        total += read;
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(stdout(), "{total} {hex}")?;
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
