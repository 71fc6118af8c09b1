use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::dial::GuestStream;
use super::sink::Sink;

/// Bytes of a stream that the shim holds: the next block is read when the last
/// is written.
const BLOCK: usize = 32 * 1024;

/// Copies input until the FIFO has no writer any more.
pub(super) async fn feed(mut receiver: pipe::Receiver, mut stream: GuestStream) {
    if let Err(error) = pump(&mut receiver, &mut stream).await {
        // The process closed its input: the client's next write fails, as on a
        // pipe.
        tracing::debug!("stdin ends: {error}");
    }
    let _ = stream.shutdown().await;
}

async fn pump(receiver: &mut pipe::Receiver, stream: &mut GuestStream) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        match receiver.read(&mut block).await? {
            0 => return Ok(()),
            n => stream.write_all(&block[..n]).await?,
        }
    }
}

/// Copies output until the guest ends it. After a failed write the rest is
/// dropped: a process must not block because a log file's disk is full.
pub(super) async fn drain(
    mut stream: GuestStream,
    sink: Sink,
    moved: Arc<AtomicU64>,
    name: &'static str,
) {
    let mut block = vec![0; BLOCK];
    let mut sink = Some(sink);
    loop {
        let n = match stream.read(&mut block).await {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) => {
                tracing::debug!("{name} ends: {error}");
                break;
            }
        };
        if let Some(open) = &mut sink
            && let Err(error) = open.write(&block[..n]).await
        {
            tracing::warn!("cannot write {name}, dropping the rest: {error}");
            sink = None;
        }
        moved.fetch_add(n as u64, Ordering::Relaxed);
    }
}
