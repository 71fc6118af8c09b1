//! The first line on a connection from the host: read with a bound, whatever
//! the pieces it comes in.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read at once.
const PIECE: usize = 256;

/// A malformed header line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// It has no end within the bound.
    #[error("the header is longer than {0} bytes")]
    TooLong(usize),
    #[error("the header is not text")]
    NotText,
}

/// Reads a line of at most `most` bytes, newline included. Returns it without
/// its newline, and the bytes after it that were read already.
pub async fn read(
    connection: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> io::Result<Result<(String, Vec<u8>), BadLine>> {
    let mut line = Vec::new();
    loop {
        if let Some(end) = line.iter().take(most).position(|b| *b == b'\n') {
            let rest = line.split_off(end + 1);
            line.truncate(end);
            let text = String::from_utf8(line).map_err(|_| BadLine::NotText);
            return Ok(text.map(|text| (text, rest)));
        }
        if line.len() >= most {
            return Ok(Err(BadLine::TooLong(most)));
        }
        let mut piece = [0; PIECE];
        match connection.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => line.extend_from_slice(&piece[..read]),
        }
    }
}

/// The line that refuses a connection for `reason`, of less than `most` bytes.
pub fn refusal(reason: &impl std::fmt::Display, most: usize) -> String {
    let reason = reason.to_string();
    let shown = reason.chars().filter(|c| !c.is_control());
    // A character has at most four bytes.
    format!("ERR {}\n", shown.take((most - 8) / 4).collect::<String>())
}

#[cfg(test)]
mod tests;
