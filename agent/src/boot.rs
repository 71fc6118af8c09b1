//! The life of process 1: connect, mount, serve, and end the guest when the
//! host is gone.

use std::fs;
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream;
use rustix::system::{RebootCommand, reboot};
use sandbox_agent_protocol::{AGENT_PORT, FORWARD_PORT, HOST_CID, STDIO_PORT, agent_ttrpc};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};
use ttrpc::asynchronous::Server;
use ttrpc::asynchronous::transport::Listener;

use crate::cgroup;
use crate::forwards;
use crate::mounts;
use crate::reaper::Reaper;
use crate::rlimits;
use crate::service::Service;
use crate::stage::mark;
use crate::streams;
use crate::table::Table;

/// How long the host may take from the connection to the handshake. A peer
/// that is not the shim is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the host may take to fetch the answer to Shutdown.
const FAREWELL: Duration = Duration::from_millis(200);

/// A boot that failed.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot listen on vsock port {0}: {1}; does the guest have a vsock device?")]
    Listen(u32, io::Error),
    #[error("cannot connect to vsock port {AGENT_PORT} of the host: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    #[error(transparent)]
    Cgroup(#[from] cgroup::CgroupError),
    #[error("cannot bring the loopback interface up: {0}")]
    Loopback(io::Error),
    #[error("cannot raise resource limits: {0}")]
    Limits(io::Error),
    #[error("cannot serve: {0}")]
    Serve(#[from] ttrpc::Error),
    #[error("the host made no handshake within {HANDSHAKE_TIMEOUT:?}")]
    NoHandshake,
}

/// Is process 1. Returning would panic the kernel, so it ends the machine.
pub fn run() -> ! {
    mark("start");
    match serve_to_the_end() {
        Ok(why) => mark(why),
        Err(error) => mark(format_args!("failed: {error}")),
    }
    // Ends the machine on both engines with `reboot=t` on the command line.
    let refused = reboot(RebootCommand::Restart);
    mark(format_args!("cannot reboot: {refused:?}"));
    std::process::exit(1)
}

fn serve_to_the_end() -> Result<&'static str, BootError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BootError::Runtime)?;
    let end = runtime.block_on(serve());
    // A blocked thread must not keep the machine up.
    runtime.shutdown_background();
    end
}

async fn serve() -> Result<&'static str, BootError> {
    let reaper = Reaper::start().map_err(BootError::Runtime)?;
    let table = Arc::new(Table::default());
    // The listeners first: the host may use them as soon as it is connected.
    let listener = listen(STDIO_PORT)?;
    let forwarded = listen(FORWARD_PORT)?;
    let connecting = tokio::spawn(VsockStream::connect(VsockAddr::new(HOST_CID, AGENT_PORT)));
    // The host answers while we mount.
    tokio::task::yield_now().await;
    mounts::first()?;
    cgroup::delegate()?;
    let connection = connecting.await.map_err(io::Error::other).flatten();
    let connection = connection.map_err(BootError::Connect)?;
    mark("connected");

    let (gone_sender, gone) = oneshot::channel();
    let (shaken, shutdown) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = Service::new(table.clone(), reaper, shaken.clone(), shutdown.clone());
    let _server = start_server(service, Watched { connection, gone: Some(gone_sender) }).await?;
    tokio::spawn(streams::serve(listener, table));
    tokio::spawn(forwards::serve(forwarded));
    finish_boot()?;
    end(gone, &shaken, &shutdown).await
}

fn listen(port: u32) -> Result<VsockListener, BootError> {
    let address = VsockAddr::new(VMADDR_CID_ANY, port);
    VsockListener::bind(address).map_err(|error| BootError::Listen(port, error))
}

async fn start_server(service: Service, connection: Watched) -> Result<Server, BootError> {
    let listener = Listener::new(stream::once(ready(Ok(connection))));
    let mut server = Server::new()
        .register_service(agent_ttrpc::create_agent(Arc::new(service)))
        .add_listener(listener);
    server.start().await?;
    Ok(server)
}

/// What may be done while the host is already talking.
fn finish_boot() -> Result<(), BootError> {
    rlimits::raise().map_err(BootError::Limits)?;
    mounts::later()?;
    // IFF_UP; the kernel adds the addresses by itself.
    fs::write("/sys/class/net/lo/flags", "0x1").map_err(BootError::Loopback)
}

/// Waits for the reason to end.
async fn end(
    gone: oneshot::Receiver<()>,
    shaken: &Notify,
    shutdown: &Notify,
) -> Result<&'static str, BootError> {
    tokio::pin!(gone);
    tokio::select! {
        _ = &mut gone => return Ok("the host is gone"),
        () = shaken.notified() => {}
        () = tokio::time::sleep(HANDSHAKE_TIMEOUT) => return Err(BootError::NoHandshake),
    }
    mark("ready");
    tokio::select! {
        _ = &mut gone => return Ok("the host is gone"),
        () = shutdown.notified() => {}
    }
    // The host hangs up when it has the answer.
    let _ = tokio::time::timeout(FAREWELL, gone).await;
    Ok("shut down")
}

/// The connection to the host, which reports its end.
struct Watched {
    connection: VsockStream,
    gone: Option<oneshot::Sender<()>>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.connection).poll_read(cx, buf);
        let ended = match &read {
            Poll::Ready(Ok(())) => buf.filled().len() == before && buf.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if ended {
            self.gone.take();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
