//! Leads connections from the host to what listens on the guest's loopback, on
//! vsock port [`FORWARD_PORT`](sandbox_agent_protocol::FORWARD_PORT), as
//! [`sandbox_agent_protocol::forward`] says.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sandbox_agent_protocol::forward::{self, BadTarget, MAX_LINE};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_vsock::VsockListener;

use crate::line::{self, BadLine};
use crate::stdio::Connection;

/// Most connections at once. Each costs two buffers and two descriptors; one
/// more is refused, not left waiting for a slot that may never come.
const MAX_CONNECTIONS: usize = 512;

/// Bytes kept for each direction of a connection.
const BUFFER: usize = 32 * 1024;

/// How long a connection may take to send its header. One that never does
/// would hold a slot for ever.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server with a full queue may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed accept, so that a lack of memory or descriptors does
/// not become a busy loop. Nothing waits for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Line(#[from] BadLine),
    #[error(transparent)]
    Target(#[from] BadTarget),
    #[error("{MAX_CONNECTIONS} connections are forwarded, which is the most")]
    TooMany,
    #[error("connecting to {target}: {source}")]
    Connect { target: SocketAddr, source: io::Error },
}

/// Answers connections for ever.
pub async fn serve(listener: VsockListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((mut connection, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            // It has room for one line; the host learns of an error by its end.
            let _ = timeout(ACCEPT_PAUSE, refuse(&mut connection, &Refusal::TooMany)).await;
            continue;
        };
        tokio::spawn(async move {
            // Both sides have learnt of an error already.
            let _ = answer(connection).await;
            drop(slot);
        });
    }
}

/// Serves one connection to its end.
async fn answer(mut connection: impl Connection) -> io::Result<()> {
    let Ok(header) = timeout(HEADER_TIMEOUT, line::read(&mut connection, MAX_LINE)).await else {
        return Err(io::ErrorKind::TimedOut.into());
    };
    match dial(header?).await {
        Err(refusal) => refuse(&mut connection, &refusal).await,
        Ok((mut server, rest)) => {
            connection.write_all(b"OK\n").await?;
            let carried = carry(&mut connection, &mut server, &rest).await;
            if carried.is_err() {
                abort(&server);
            }
            carried
        }
    }
}

async fn refuse(connection: &mut impl Connection, refusal: &Refusal) -> io::Result<()> {
    connection.write_all(line::refusal(refusal, MAX_LINE).as_bytes()).await?;
    connection.shutdown().await
}

async fn dial(header: Result<(String, Vec<u8>), BadLine>) -> Result<(TcpStream, Vec<u8>), Refusal> {
    let (text, rest) = header?;
    let target = forward::parse(&text)?;
    let failed = |source| Refusal::Connect { target, source };
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(target));
    let server = connecting.await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?;
    let server = server.map_err(failed)?;
    // The client decides what goes into one segment.
    server.set_nodelay(true).map_err(failed)?;
    Ok((server, rest))
}

/// Carries bytes both ways, and the end of each way, until both have ended.
async fn carry(
    connection: &mut impl Connection,
    server: &mut TcpStream,
    rest: &[u8],
) -> io::Result<()> {
    server.write_all(rest).await?;
    let mut client = Client(connection);
    copy_bidirectional_with_sizes(&mut client, server, BUFFER, BUFFER).await?;
    Ok(())
}

/// The host's end, which distinguishes a close from a half-close.
struct Client<'a, C>(&'a mut C);

impl<C: Connection> AsyncRead for Client<'_, C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut *self.0).poll_read(cx, buf);
        let ended = matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        if ended && buf.remaining() > 0 && self.0.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl<C: Connection> AsyncWrite for Client<'_, C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

/// Has the server learn that the connection was cut, not ended.
fn abort(server: &TcpStream) {
    // Without it the server sees an end, which is the second best.
    let _ = rustix::net::sockopt::set_socket_linger(server, Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
