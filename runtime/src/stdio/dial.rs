//! Connections to the agent's streams, by the vsock device's convention.

use std::io;
use std::path::Path;
use std::time::Duration;

use sandbox_agent_protocol::STDIO_PORT;
use sandbox_agent_protocol::stream::{MAX_LINE, StreamHeader};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A guest that takes longer is broken.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A stream of a process in the guest. Its buffer holds the output that arrived
/// together with the agent's answer.
pub(super) type GuestStream = BufReader<UnixStream>;

/// Connects to the stream that `header` names.
pub(super) async fn dial(vsock: &Path, header: &StreamHeader) -> io::Result<GuestStream> {
    match timeout(TIMEOUT, connect(vsock, header)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the guest does not answer")),
    }
}

async fn connect(vsock: &Path, header: &StreamHeader) -> io::Result<GuestStream> {
    let mut stream = BufReader::with_capacity(MAX_LINE, UnixStream::connect(vsock).await?);
    // The device keeps what follows its own line until the guest has accepted,
    // which saves a round trip.
    stream.write_all(format!("CONNECT {STDIO_PORT}\n{header}\n").as_bytes()).await?;
    expect(&mut stream, "OK ").await?;
    expect(&mut stream, "OK").await?;
    Ok(stream)
}

async fn expect(stream: &mut GuestStream, start: &str) -> io::Result<()> {
    let mut line = Vec::new();
    stream.take(MAX_LINE as u64).read_until(b'\n', &mut line).await?;
    if line.last() != Some(&b'\n') {
        return Err(match line.len() {
            MAX_LINE => io::Error::other("the guest's answer does not end"),
            _ => io::ErrorKind::UnexpectedEof.into(),
        });
    }
    if line.starts_with(start.as_bytes()) {
        return Ok(());
    }
    let line = String::from_utf8_lossy(&line);
    Err(io::Error::other(format!("the guest answered {:?}", line.trim_end())))
}
