//! What listens, by the kernel's socket diagnosis (`sock_diag(7)`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NlasIterator};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::netlink::Netlink;

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;

/// `TCP_LISTEN`
const LISTEN: u8 = 10;

/// Bytes of `struct inet_diag_msg`.
const MESSAGE: usize = 72;

/// `INET_DIAG_SKV6ONLY`
const SKV6ONLY: u16 = 11;

/// A listening TCP socket. Ordered by port, then address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listening {
    /// Where it is bound.
    pub port: u16,
    /// Where it is bound; unspecified is every address.
    pub ip: IpAddr,
    /// Whether it takes IPv6 alone.
    pub v6_only: bool,
}

/// A listening socket with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The kernel's number for it, never used twice.
    pub cookie: u64,
    /// Where.
    pub listening: Listening,
}

/// Asks the kernel for the sockets of the network namespace it was made in.
pub struct Diag {
    netlink: Netlink,
}

impl Diag {
    /// Opens a socket to the kernel.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open(NETLINK_SOCK_DIAG)? })
    }

    /// Hands every listening TCP socket to `f`.
    pub fn each(&mut self, f: &mut dyn FnMut(Socket)) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.netlink.each(&request(family as u8), &mut |payload| {
                if let Some(socket) = parse(payload) {
                    f(socket);
                }
            })?;
        }
        Ok(())
    }
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2`.
fn request(family: u8) -> Vec<u8> {
    let mut bytes = vec![0; 16 + 56];
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes[16] = family;
    bytes[17] = libc::IPPROTO_TCP as u8;
    let states = 1_u32 << LISTEN;
    bytes[20..24].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// Reads a `struct inet_diag_msg` with its attributes; none if it is not of a
/// listening socket.
fn parse(payload: &[u8]) -> Option<Socket> {
    let (message, attributes) = payload.split_at_checked(MESSAGE)?;
    let (family, state) = (message[0], message[1]);
    if state != LISTEN {
        return None;
    }
    let port = u16::from_be_bytes(array(message, 4)?);
    let ip: IpAddr = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::from(array::<4>(message, 8)?).into(),
        // Bound to an IPv4 address, an IPv6 socket takes IPv4 alone.
        libc::AF_INET6 => Ipv6Addr::from(array::<16>(message, 8)?).to_canonical(),
        _ => return None,
    };
    let cookie = u64::from_ne_bytes(array(message, 44)?);
    let mut attributes = NlasIterator::new(attributes).filter_map(Result::ok);
    let v6_only = attributes.any(|a| a.kind() == SKV6ONLY && a.value().first() == Some(&1));
    Some(Socket { cookie, listening: Listening { port, ip, v6_only } })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests;
