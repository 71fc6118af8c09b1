use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use sandbox_vm_spec::network::{MAX_REQUEST, Reply, Request, receive, send};

use super::capture::Tap;
use super::control::Control;

/// Clients at a time: the shim, and people with `sandboxctl`. Each has a
/// thread.
const CLIENTS: usize = 16;
/// Stack of a client's thread; reading a policy takes the most of it.
const STACK: usize = 512 * 1024;
/// Longest request of which more than one may be in memory.
const SMALL: usize = 256 * 1024;
/// Timeout of a client that sends a long request or reads a reply.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a capture looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of a capture in one reply: in base64 and JSON it stays below what a
/// client takes.
const CAPTURED: usize = 256 * 1024;

/// What the clients share.
struct Shared {
    control: Control,
    /// Name of the interface in captures.
    pod: String,
    clients: AtomicUsize,
    /// Locked while a client sends a long request.
    long: Mutex<()>,
}

/// Answers the clients of `listener`, in threads.
pub fn start(listener: UnixListener, control: Control, pod: String) -> io::Result<()> {
    listener.set_nonblocking(false)?;
    let (clients, long) = (AtomicUsize::new(0), Mutex::new(()));
    let shared = Arc::new(Shared { control, pod, clients, long });
    let accept = move || {
        for client in listener.incoming() {
            match client {
                Ok(client) => shared.admit(client),
                Err(error) => {
                    tracing::warn!("net: cannot accept a client: {error}");
                    // Mostly for want of descriptors: there may be some a moment later.
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    };
    thread::Builder::new().name("network".into()).stack_size(64 * 1024).spawn(accept)?;
    Ok(())
}

impl Shared {
    fn admit(self: &Arc<Self>, mut client: UnixStream) {
        let ready = client.set_write_timeout(Some(PATIENCE));
        if ready.is_err() {
            return;
        }
        if self.clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
            self.clients.fetch_sub(1, Ordering::Relaxed);
            let error = format!("{CLIENTS} clients are connected already; try again later");
            let _ = send(&mut client, &Reply::Failed { error });
            return;
        }
        let shared = self.clone();
        let serve = move || {
            if let Err(error) = shared.serve(&mut client) {
                tracing::debug!("net: a client has gone: {error}");
            }
            shared.clients.fetch_sub(1, Ordering::Relaxed);
        };
        let name = "network-client".into();
        if let Err(error) = thread::Builder::new().name(name).stack_size(STACK).spawn(serve) {
            self.clients.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("net: no thread for a client: {error}");
        }
    }

    /// Answers one request after the other.
    fn serve(&self, client: &mut UnixStream) -> io::Result<()> {
        while let Some(length) = announced(client)? {
            let long = length > SMALL;
            let turn = long.then(|| self.long.lock().unwrap_or_else(PoisonError::into_inner));
            client.set_read_timeout(Some(PATIENCE))?;
            let request = match receive::<Request>(client, MAX_REQUEST) {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                Err(error) => {
                    let error = format!("invalid request: {error}");
                    return send(client, &Reply::Failed { error });
                }
            };
            client.set_read_timeout(None)?;
            match request {
                Request::Capture { snap } => return self.capture(client, snap),
                request => send(client, &self.control.ask(request))?,
            }
            if turn.is_some() {
                // The text of a policy and what was parsed of it.
                sandbox_mapped::trim();
            }
        }
        Ok(())
    }

    /// Sends the frames of the link until the client hangs up.
    fn capture(&self, client: &mut UnixStream, snap: u32) -> io::Result<()> {
        let tap = match self.control.capture(&self.pod, snap) {
            Ok(tap) => tap,
            Err(error) => return send(client, &Reply::Failed { error }),
        };
        let ended = follow(client, &tap);
        self.control.end_capture(&tap);
        ended
    }
}

fn follow(client: &mut UnixStream, tap: &Tap) -> io::Result<()> {
    while !has_hung_up(client) {
        let (bytes, mut lost) = tap.take(LOOK);
        for piece in bytes.chunks(CAPTURED) {
            let pcapng = BASE64_STANDARD.encode(piece);
            send(client, &Reply::Captured { pcapng, lost: std::mem::take(&mut lost) })?;
        }
    }
    Ok(())
}

fn has_hung_up(client: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    !matches!(recv(client, &mut [0], flags), Ok((1.., _)) | Err(Errno::AGAIN))
}

/// Waits for the length of the next request, and leaves it to be read; none at
/// the end.
fn announced(client: &UnixStream) -> io::Result<Option<usize>> {
    let mut length = [0; 4];
    let (peeked, _) = recv(client, &mut length, RecvFlags::PEEK | RecvFlags::WAITALL)?;
    Ok((peeked > 0).then(|| u32::from_be_bytes(length) as usize))
}
