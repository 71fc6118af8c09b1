//! What listens, by the kernel's socket diagnosis (`sock_diag(7)`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NlasIterator};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use sandbox_netlink::Netlink;

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;

// States of sockets, TCP's names for UDP's too: with one peer, with none, and
// a listener.
/// `TCP_ESTABLISHED`
const ESTABLISHED: u8 = 1;
/// `TCP_CLOSE`
const CLOSE: u8 = 7;
/// `TCP_LISTEN`
const LISTEN: u8 = 10;

/// Bytes of `struct inet_diag_msg`.
const MESSAGE: usize = 72;

/// `INET_DIAG_SKV6ONLY`
const SKV6ONLY: u16 = 11;

/// A TCP socket that listens, or a UDP socket. TCP comes first, then ports are
/// in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listening {
    /// True for a UDP socket.
    pub udp: bool,
    /// Where it is bound.
    pub port: u16,
    /// Where it is bound; unspecified is every address.
    pub ip: IpAddr,
    /// Whether it takes IPv6 alone.
    pub v6_only: bool,
}

/// Such a socket with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The kernel's number for it, never used twice.
    pub cookie: u64,
    /// True for a UDP socket that takes datagrams of one peer alone.
    pub connected: bool,
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

    /// Hands every TCP socket that listens and every UDP socket to `f`.
    pub fn each(&mut self, f: &mut dyn FnMut(Socket)) -> io::Result<()> {
        for (family, udp) in [
            (libc::AF_INET, false),
            (libc::AF_INET6, false),
            (libc::AF_INET, true),
            (libc::AF_INET6, true),
        ] {
            self.netlink.each(&request(family as u8, udp), &mut |_, payload| {
                if let Some(socket) = parse(payload, udp) {
                    f(socket);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The states that are asked for.
fn states(udp: bool) -> &'static [u8] {
    if udp { &[ESTABLISHED, CLOSE] } else { &[LISTEN] }
}

/// `struct nlmsghdr`, then `struct inet_diag_req_v2`.
fn request(family: u8, udp: bool) -> Vec<u8> {
    let mut bytes = vec![0; 16 + 56];
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes[16] = family;
    bytes[17] = if udp { libc::IPPROTO_UDP } else { libc::IPPROTO_TCP } as u8;
    let states = states(udp).iter().fold(0_u32, |mask, state| mask | 1 << state);
    bytes[20..24].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// Reads a `struct inet_diag_msg` with its attributes; none if it is not of
/// what was asked for.
fn parse(payload: &[u8], udp: bool) -> Option<Socket> {
    let (message, attributes) = payload.split_at_checked(MESSAGE)?;
    let (family, state) = (message[0], message[1]);
    if !states(udp).contains(&state) {
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
    let connected = state == ESTABLISHED;
    Some(Socket { cookie, connected, listening: Listening { udp, port, ip, v6_only } })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests;
