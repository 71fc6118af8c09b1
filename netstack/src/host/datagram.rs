//! Sockets that carry whole messages.

use std::net::{IpAddr, SocketAddr};

use super::Errno;

/// An error that some router or host reported about what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The destination of the message.
    pub to: SocketAddr,
    /// The reporter's address, if known.
    pub from: Option<IpAddr>,
    /// Where the word comes from.
    pub origin: Origin,
    /// What it means to a socket.
    pub errno: Errno,
    /// The path's MTU, in a message that was too big.
    pub mtu: u32,
}

/// The origin of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The host's own kernel.
    Local,
    /// An ICMP message of this type and code.
    Icmp(u8, u8),
}

/// A UDP socket of the host, bound and not connected.
pub trait Datagrams {
    /// Sends a datagram; with `whole` it is not to be cut on its way.
    fn send(&mut self, to: SocketAddr, payload: &[u8], whole: bool) -> Result<(), Errno>;

    /// Receives one: its length and its sender.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Errno>;

    /// The next error that was reported.
    fn notice(&mut self) -> Option<Notice>;

    /// The port that it is bound to.
    fn port(&self) -> Result<u16, Errno>;
}

/// A socket of the host for ICMP echo.
pub trait Echoes {
    /// Sends a request.
    fn send(&mut self, to: IpAddr, sequence: u16, data: &[u8], hops: u8) -> Result<(), Errno>;

    /// Receives a reply: its sender, sequence number, and how many bytes
    /// of data there are in the buffer.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(IpAddr, u16, usize), Errno>;

    /// The next error that was reported, with the sequence number of the
    /// request that it is about.
    fn notice(&mut self) -> Option<(Notice, u16)>;
}
