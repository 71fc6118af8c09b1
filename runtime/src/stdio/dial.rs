//! Connections to the agent's streams, by the vsock device's convention.

use std::io;
use std::path::Path;
use std::time::Duration;

use sandbox_agent_protocol::STDIO_PORT;
use sandbox_agent_protocol::stream::{MAX_LINE, StreamHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A guest that takes longer is broken.
const LIMIT: Duration = Duration::from_secs(10);

/// Connects to the stream that `header` names.
pub(super) async fn dial(vsock: &Path, header: &StreamHeader) -> io::Result<UnixStream> {
    match timeout(LIMIT, connect(vsock, header)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the guest does not answer")),
    }
}

async fn connect(vsock: &Path, header: &StreamHeader) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(vsock).await?;
    stream.write_all(format!("CONNECT {STDIO_PORT}\n").as_bytes()).await?;
    expect(&mut stream, "OK ").await?;
    stream.write_all(format!("{header}\n").as_bytes()).await?;
    expect(&mut stream, "OK").await?;
    Ok(stream)
}

async fn expect(stream: &mut UnixStream, start: &str) -> io::Result<()> {
    let line = line(stream).await?;
    if line.starts_with(start) {
        return Ok(());
    }
    Err(io::Error::other(format!("the guest answered {:?}", line.trim_end())))
}

/// A line, byte by byte: what follows it is the stream's own.
async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() == MAX_LINE {
            return Err(io::Error::other("the guest's answer does not end"));
        }
        line.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
