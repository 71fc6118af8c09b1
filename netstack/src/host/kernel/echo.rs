//! ICMP echo.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::net::sockopt::{set_ip_ttl, set_ipv6_unicast_hops};
use rustix::net::{RecvFlags, SendFlags, SocketType, ipproto, recvfrom, sendto, socket_with};

use super::datagram::{QUOTE, address, report_errors, reported};
use super::{FLAGS, family};
use crate::checksum;
use crate::host::{Echoes, Errno, Notice};

/// Types of request and reply.
const REQUEST4: u8 = 8;
const REPLY4: u8 = 0;
const REQUEST6: u8 = 128;
const REPLY6: u8 = 129;

/// Bytes of the header.
const HEADER: usize = 8;

/// Identifiers for raw sockets of this process.
static NEXT: AtomicU16 = AtomicU16::new(1);

/// A socket of the kernel's for echo: a "ping socket" where the namespace
/// permits them, else a raw one.
#[derive(Debug)]
pub struct KernelEchoes {
    socket: OwnedFd,
    v4: bool,
    /// The identifier, where the kernel does not choose it.
    raw: Option<u16>,
    hops: Option<u8>,
    message: Vec<u8>,
}

impl KernelEchoes {
    pub(super) fn open(v4: bool) -> Result<Self, Errno> {
        let protocol = if v4 { ipproto::ICMP } else { ipproto::ICMPV6 };
        let open = |kind| socket_with(family(v4), kind, FLAGS, Some(protocol));
        let (socket, raw) = match open(SocketType::DGRAM) {
            Ok(socket) => (socket, None),
            Err(_) => {
                let own = u16::try_from(std::process::id() & 0x7fff).unwrap_or(0) << 1;
                let id = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
                (open(SocketType::RAW)?, Some(id))
            }
        };
        report_errors(&socket, v4)?;
        Ok(Self { socket, v4, raw, hops: None, message: Vec::new() })
    }

    fn set_hops(&mut self, hops: u8) -> Result<(), Errno> {
        if self.hops == Some(hops) {
            return Ok(());
        }
        if self.v4 {
            set_ip_ttl(&self.socket, u32::from(hops))?;
        } else {
            set_ipv6_unicast_hops(&self.socket, Some(hops))?;
        }
        self.hops = Some(hops);
        Ok(())
    }

    /// Sequence number and data of a message of this type, if it is ours.
    fn of<'a>(&self, kind: u8, message: &'a [u8]) -> Option<(u16, &'a [u8])> {
        let [t, _, _, _, i0, i1, s0, s1, data @ ..] = message else { return None };
        let id = u16::from_be_bytes([*i0, *i1]);
        let ours = *t == kind && self.raw.is_none_or(|own| own == id);
        ours.then(|| (u16::from_be_bytes([*s0, *s1]), data))
    }
}

impl AsFd for KernelEchoes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Echoes for KernelEchoes {
    fn send(&mut self, to: IpAddr, sequence: u16, data: &[u8], hops: u8) -> Result<(), Errno> {
        self.set_hops(hops)?;
        let [i0, i1] = self.raw.unwrap_or(0).to_be_bytes();
        let [s0, s1] = sequence.to_be_bytes();
        let kind = if self.v4 { REQUEST4 } else { REQUEST6 };
        let sum = checksum::sum(&[kind, 0, 0, 0, i0, i1, s0, s1], 0);
        // The kernel makes the sum itself, except for raw sockets of IPv4.
        let [c0, c1] = (!checksum::sum(data, sum)).to_be_bytes();
        self.message.clear();
        self.message.extend_from_slice(&[kind, 0, c0, c1, i0, i1, s0, s1]);
        self.message.extend_from_slice(data);
        sendto(&self.socket, &self.message, SendFlags::DONTWAIT, &SocketAddr::new(to, 0)).map(drop)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<(IpAddr, u16, usize), Errno> {
        // A raw socket gets every message of the namespace: others' are passed
        // over, up to the bound of what its queue holds.
        loop {
            let (length, _, from) = recvfrom(&self.socket, &mut *buffer, RecvFlags::DONTWAIT)?;
            let from = address(from)?.ip();
            let message = buffer.get(..length).unwrap_or_default();
            let skip = match message.first() {
                Some(first) if self.v4 && self.raw.is_some() => usize::from(first & 15) * 4,
                _ => 0,
            };
            let kind = if self.v4 { REPLY4 } else { REPLY6 };
            let found = message.get(skip..).and_then(|message| self.of(kind, message));
            if let Some((sequence, data)) = found {
                let size = data.len();
                buffer.copy_within(skip + HEADER..skip + HEADER + size, 0);
                return Ok((from, sequence, size));
            }
        }
    }

    fn notice(&mut self) -> Option<(Notice, u16)> {
        let mut quote = [0; QUOTE];
        let (notice, length) = reported(self.socket.as_fd(), &mut quote)?;
        let kind = if self.v4 { REQUEST4 } else { REQUEST6 };
        let sequence = self.of(kind, quote.get(..length)?).map_or(0, |(sequence, _)| sequence);
        Some((notice, sequence))
    }
}
