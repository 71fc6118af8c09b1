//! Serves the standard streams of processes on vsock port
//! [`STDIO_PORT`](sandbox_agent_protocol::STDIO_PORT), as
//! [`sandbox_agent_protocol::stream`] describes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sandbox_agent_protocol::stream::{MAX_LINE, StreamHeader, StreamName};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_vsock::VsockListener;

use crate::container::MAX_EXECS;
use crate::error::CallError;
use crate::line::{self, BadLine};
use crate::stdio::{Connection, FetchError};
use crate::table::{MAX_CONTAINERS, Table};

/// How long a connection may take to send its header. One that never does
/// would hold a slot for ever.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most connections at once: three for every container and, in one of them, for
/// every process. Each costs a buffer; a host that opens more waits in the
/// listener's queue.
const MAX_CONNECTIONS: usize = 3 * (MAX_CONTAINERS + MAX_EXECS);

/// Pause after a failed accept, so that a lack of memory or descriptors does
/// not become a busy loop. Nothing waits for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection got no stream.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Line(#[from] BadLine),
    #[error(transparent)]
    Header(#[from] sandbox_agent_protocol::stream::BadHeader),
    #[error(transparent)]
    Unknown(#[from] CallError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// Answers connections for ever.
pub async fn serve(listener: VsockListener, table: Arc<Table>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let table = table.clone();
        tokio::spawn(async move {
            // The host learns of an error by the end of the connection.
            let _ = answer(connection, &table).await;
            drop(slot);
        });
    }
}

/// Serves one connection to its end.
async fn answer(mut connection: impl Connection, table: &Table) -> io::Result<()> {
    let Ok(header) = timeout(HEADER_TIMEOUT, read_header(&mut connection)).await else {
        return Err(io::ErrorKind::TimedOut.into());
    };
    let served = match header? {
        Ok((header, rest)) => serve_stream(&mut connection, table, &header, &rest).await,
        Err(refusal) => Err(refusal),
    };
    match served {
        Ok(result) => result,
        Err(refusal) => {
            connection.write_all(line::refusal(&refusal, MAX_LINE).as_bytes()).await?;
            connection.shutdown().await
        }
    }
}

async fn serve_stream(
    connection: &mut impl Connection,
    table: &Table,
    header: &StreamHeader,
    rest: &[u8],
) -> Result<io::Result<()>, Refusal> {
    let process = table.get(&header.container_id)?.process(&header.exec_id)?;
    if header.stream == StreamName::Stdin {
        let mut input = process.stdio.fetch_input()?;
        return Ok(match accept(connection).await {
            Ok(()) => input.feed(connection, rest, process.exit()).await,
            Err(e) => Err(e),
        });
    }
    let mut output = process.stdio.fetch_output(header.stream)?;
    Ok(match accept(connection).await {
        Ok(()) => output.drain(connection).await,
        Err(e) => Err(e),
    })
}

async fn accept(connection: &mut impl Connection) -> io::Result<()> {
    connection.write_all(b"OK\n").await
}

/// Reads the header; also returns what came after its line.
async fn read_header(
    connection: &mut impl Connection,
) -> io::Result<Result<(StreamHeader, Vec<u8>), Refusal>> {
    let line = line::read(connection, MAX_LINE).await?;
    Ok(line.map_err(Refusal::from).and_then(|(text, rest)| Ok((text.parse()?, rest))))
}

#[cfg(test)]
mod tests;
