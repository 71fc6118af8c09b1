//! The host's side: sockets in the pod's network namespace.
//!
//! Everything that reaches out takes the [`Permit`] of the flow it is for.
//! [`KernelNet`] is the real one; tests and fuzz targets have a
//! scripted [`mock`](mod@mock).

mod datagram;
mod kernel;
#[cfg(any(test, feature = "mock"))]
pub mod mock;
mod token;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

pub use rustix::io::Errno;

pub use datagram::{Datagrams, Echoes, Notice, Origin};
pub use kernel::{KernelDatagrams, KernelEchoes, KernelListener, KernelNet, KernelStream};
pub(crate) use token::Owner;
pub use token::Token;

use crate::policy::Permit;

/// Something happened at a socket since it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The socket's.
    pub token: Token,
    /// There is something to read, or an end of it.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The other end is gone, wholly or for writing, or an error waits.
    pub closing: bool,
    /// An error waits.
    pub failed: bool,
}

/// A connection that came in.
#[derive(Debug)]
pub struct Accepted<S> {
    /// It.
    pub stream: S,
    /// The client.
    pub peer: SocketAddr,
    /// Which of the namespace's addresses was dialled.
    pub local: SocketAddr,
}

/// The network of the pod's namespace.
pub trait HostNet {
    /// A TCP connection.
    type Stream: Stream;
    /// A TCP listener.
    type Listener;
    /// A UDP socket that talks to many.
    type Datagrams: Datagrams;
    /// A socket for ICMP echo.
    type Echoes: Echoes;

    /// Becomes readable when [`poll`](Self::poll) has events; `None` where there is
    /// nothing to wait for.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Who waited for [`fd`](Self::fd) has seen nothing there: the next
    /// [`poll`](Self::poll) need not ask, unless a connection begins before it.
    fn quiet(&mut self) {}

    /// Appends what happened. Edges: what is not read up to "would block" is
    /// not told again.
    fn poll(&mut self, ready: &mut Vec<Ready>);

    /// Begins to connect. The token becomes writable or closing when it is
    /// known how that went, see [`Stream::error`].
    fn connect(
        &mut self,
        permit: &Permit,
        to: SocketAddr,
        token: Token,
    ) -> Result<Self::Stream, Errno>;

    /// Listens at an address of the namespace.
    fn listen(&mut self, at: SocketAddr, token: Token) -> Result<Self::Listener, Errno>;

    /// Accepts a connection; its events have `token`.
    fn accept(
        &mut self,
        listener: &mut Self::Listener,
        token: Token,
    ) -> Result<Accepted<Self::Stream>, Errno>;

    /// A UDP socket of this family, on `port` if that is free.
    fn datagrams(
        &mut self,
        permit: &Permit,
        v4: bool,
        port: u16,
        token: Token,
    ) -> Result<Self::Datagrams, Errno>;

    /// A UDP socket at an address of the namespace, for clients there.
    fn serve(&mut self, at: SocketAddr, token: Token) -> Result<Self::Datagrams, Errno>;

    /// A socket for echo requests of this family. Their identifier is its own.
    fn echoes(&mut self, permit: &Permit, v4: bool, token: Token) -> Result<Self::Echoes, Errno>;
}

/// A TCP connection of the host. Nothing here waits.
pub trait Stream {
    /// How connecting went, and what else went wrong since it was last asked.
    fn error(&mut self) -> Result<(), Errno>;

    /// Reads; 0 is the end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno>;

    /// Writes some.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno>;

    /// Nothing more will be written.
    fn finish(&mut self) -> Result<(), Errno>;

    /// Probes the other end from now on when nothing else is sent.
    fn keep_alive(&mut self);

    /// Ends it with a reset.
    fn reset(self);
}
