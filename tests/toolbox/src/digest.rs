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

/// Writes `bytes` bytes to stdout, each value in turn, in one burst.
pub fn pour(bytes: usize) -> anyhow::Result<()> {
    let data: Vec<u8> = (0..bytes).map(pattern).collect();
    stdout().write_all(&data)?;
    Ok(())
}

/// Byte number `index` of what [`pour`] writes: every value occurs, and a
/// stretch that is lost or doubled shifts what follows.
pub fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13) as u8
}
