//! Sockets of the kernel, opened in the network namespace of the thread that
//! opens them.

mod datagram;
mod echo;

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, acceptfrom_with, bind,
    connect, ipproto, listen, recv, send, shutdown, socket_with, sockopt,
};

use super::{Accepted, Errno, HostNet, Ready, Stream, Token};
use crate::policy::Permit;
pub use datagram::KernelDatagrams;
pub use echo::KernelEchoes;

/// Events taken in one turn; the rest stays for the next, so that a storm of
/// them does not keep the guest's frames waiting.
const EVENTS: usize = 256;

/// Connections that wait to be accepted, per listener.
const BACKLOG: i32 = 128;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// The kernel's network, by one epoll instance.
pub struct KernelNet {
    epoll: OwnedFd,
    /// There is nothing to be had of `epoll` for now.
    quiet: bool,
}

impl KernelNet {
    /// Sockets will be opened in the namespace of the thread that calls.
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, quiet: false })
    }

    fn watch(&self, socket: impl AsFd, token: Token, writing: bool) -> Result<(), Errno> {
        let mut flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if writing {
            flags |= epoll::EventFlags::OUT;
        }
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token.0), flags)
    }
}

fn family(v4: bool) -> AddressFamily {
    if v4 { AddressFamily::INET } else { AddressFamily::INET6 }
}

impl HostNet for KernelNet {
    type Stream = KernelStream;
    type Listener = KernelListener;
    type Datagrams = KernelDatagrams;
    type Echoes = KernelEchoes;

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn quiet(&mut self) {
        self.quiet = true;
    }

    fn poll(&mut self, ready: &mut Vec<Ready>) {
        if std::mem::take(&mut self.quiet) {
            return;
        }
        let now = rustix::event::Timespec::default();
        let mut events = [MaybeUninit::uninit(); EVENTS];
        // Interrupted, or out of memory: the events are still there next time.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, Some(&now)) else { return };
        let gone = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        ready.extend(events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready {
                token: Token(data.u64()),
                readable: flags.contains(epoll::EventFlags::IN),
                writable: flags.contains(epoll::EventFlags::OUT),
                closing: flags.intersects(gone),
                failed: flags.contains(epoll::EventFlags::ERR),
            }
        }));
    }

    fn connect(
        &mut self,
        _permit: &Permit,
        to: SocketAddr,
        token: Token,
    ) -> Result<KernelStream, Errno> {
        let socket =
            socket_with(family(to.is_ipv4()), SocketType::STREAM, FLAGS, Some(ipproto::TCP))?;
        // The guest's own TCP has decided what goes out together.
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        // A connect to a local peer may have completed already.
        self.quiet = false;
        self.watch(&socket, token, true)?;
        Ok(KernelStream(socket))
    }

    fn listen(&mut self, at: SocketAddr, token: Token) -> Result<KernelListener, Errno> {
        let socket =
            socket_with(family(at.is_ipv4()), SocketType::STREAM, FLAGS, Some(ipproto::TCP))?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if at.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        bind(&socket, &at)?;
        listen(&socket, BACKLOG)?;
        self.watch(&socket, token, false)?;
        Ok(KernelListener(socket))
    }

    fn accept(
        &mut self,
        listener: &mut KernelListener,
        token: Token,
    ) -> Result<Accepted<KernelStream>, Errno> {
        let (socket, peer) = acceptfrom_with(&listener.0, FLAGS)?;
        let peer = peer.ok_or(Errno::NOTCONN)?;
        let peer = SocketAddr::try_from(peer)?;
        let local = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        self.watch(&socket, token, true)?;
        Ok(Accepted { stream: KernelStream(socket), peer, local })
    }

    fn datagrams(
        &mut self,
        _permit: &Permit,
        v4: bool,
        port: u16,
        token: Token,
    ) -> Result<KernelDatagrams, Errno> {
        let socket = KernelDatagrams::open(v4, port)?;
        self.watch(&socket, token, false)?;
        Ok(socket)
    }

    fn serve(&mut self, at: SocketAddr, token: Token) -> Result<KernelDatagrams, Errno> {
        let socket = KernelDatagrams::bound(at)?;
        self.watch(&socket, token, false)?;
        Ok(socket)
    }

    fn echoes(&mut self, _permit: &Permit, v4: bool, token: Token) -> Result<KernelEchoes, Errno> {
        let socket = KernelEchoes::open(v4)?;
        self.watch(&socket, token, false)?;
        Ok(socket)
    }
}

/// A listener of the kernel's.
#[derive(Debug)]
pub struct KernelListener(OwnedFd);

/// A connection of the kernel's.
#[derive(Debug)]
pub struct KernelStream(OwnedFd);

impl KernelStream {
    /// The socket itself, for another carrier.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl Stream for KernelStream {
    fn error(&mut self) -> Result<(), Errno> {
        sockopt::socket_error(&self.0)?
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        recv(&self.0, buffer, RecvFlags::DONTWAIT).map(|(read, _)| read)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    fn finish(&mut self) -> Result<(), Errno> {
        shutdown(&self.0, Shutdown::Write)
    }

    fn keep_alive(&mut self) {
        // A socket that does not take it is one that is gone already.
        let _ = sockopt::set_socket_keepalive(&self.0, true);
    }

    fn reset(self) {
        // Without lingering, closing sends a reset; if this fails the other
        // end sees a FIN, which is the best that is left.
        let _ = sockopt::set_socket_linger(&self.0, Some(Duration::ZERO));
    }
}
