//! UDP.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt,
    sockopt as options,
};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    set_ipv6_v6only,
};
use rustix::net::{
    RecvFlags, SendFlags, SocketAddrAny, SocketType, bind, getsockname, ipproto, recvfrom, sendto,
    socket_with,
};

use super::{FLAGS, family};
use crate::host::{Datagrams, Errno, Notice, Origin};

/// Where a reported error comes from (`linux/errqueue.h`).
const FROM_ICMP: u8 = 2;
const FROM_ICMP6: u8 = 3;

/// Bytes of a reported message that are looked at.
pub(super) const QUOTE: usize = 64;

/// A UDP socket of the kernel's.
#[derive(Debug)]
pub struct KernelDatagrams {
    socket: OwnedFd,
    v4: bool,
    whole: Option<bool>,
}

impl KernelDatagrams {
    /// At every address, on `port` if that is free.
    pub(super) fn open(v4: bool, port: u16) -> Result<Self, Errno> {
        let datagrams = Self::unbound(v4)?;
        match bind(&datagrams.socket, &any(v4, port)) {
            // Somebody else's: another is as good, except for who knows the
            // guest's port from elsewhere.
            Err(Errno::ADDRINUSE | Errno::ACCESS) => bind(&datagrams.socket, &any(v4, 0))?,
            other => other?,
        }
        Ok(datagrams)
    }

    pub(super) fn bound(at: SocketAddr) -> Result<Self, Errno> {
        let datagrams = Self::unbound(at.is_ipv4())?;
        bind(&datagrams.socket, &at)?;
        Ok(datagrams)
    }

    fn unbound(v4: bool) -> Result<Self, Errno> {
        let socket = socket_with(family(v4), SocketType::DGRAM, FLAGS, Some(ipproto::UDP))?;
        report_errors(&socket, v4)?;
        if !v4 {
            set_ipv6_v6only(&socket, true)?;
        }
        Ok(Self { socket, v4, whole: None })
    }

    fn set_whole(&mut self, whole: bool) -> Result<(), Errno> {
        if self.whole == Some(whole) {
            return Ok(());
        }
        match (self.v4, whole) {
            (true, true) => set_ip_mtu_discover(&self.socket, Ipv4PathMtuDiscovery::DO),
            (true, false) => set_ip_mtu_discover(&self.socket, Ipv4PathMtuDiscovery::DONT),
            (false, true) => set_ipv6_mtu_discover(&self.socket, Ipv6PathMtuDiscovery::DO),
            (false, false) => set_ipv6_mtu_discover(&self.socket, Ipv6PathMtuDiscovery::DONT),
        }?;
        self.whole = Some(whole);
        Ok(())
    }
}

fn any(v4: bool, port: u16) -> SocketAddr {
    if v4 { SocketAddr::from(([0; 4], port)) } else { SocketAddr::from(([0u16; 8], port)) }
}

pub(super) fn report_errors(socket: impl AsFd, v4: bool) -> Result<(), Errno> {
    let set = if v4 {
        setsockopt(&socket, options::Ipv4RecvErr, &true)
    } else {
        setsockopt(&socket, options::Ipv6RecvErr, &true)
    };
    set.map_err(|error| Errno::from_raw_os_error(error as i32))
}

impl AsFd for KernelDatagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Datagrams for KernelDatagrams {
    fn send(&mut self, to: SocketAddr, payload: &[u8], whole: bool) -> Result<(), Errno> {
        self.set_whole(whole)?;
        sendto(&self.socket, payload, SendFlags::DONTWAIT, &to).map(drop)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Errno> {
        let (length, _, from) = recvfrom(&self.socket, buffer, RecvFlags::DONTWAIT)?;
        Ok((length, address(from)?))
    }

    fn notice(&mut self) -> Option<Notice> {
        reported(self.socket.as_fd(), &mut [0; QUOTE]).map(|(notice, _)| notice)
    }

    fn port(&self) -> Result<u16, Errno> {
        Ok(SocketAddr::try_from(getsockname(&self.socket)?)?.port())
    }
}

pub(super) fn address(from: Option<SocketAddrAny>) -> Result<SocketAddr, Errno> {
    SocketAddr::try_from(from.ok_or(Errno::NOTCONN)?)
}

/// Takes an error off the socket's queue, with the bytes of the message that
/// it is about.
pub(super) fn reported(socket: BorrowedFd<'_>, quote: &mut [u8]) -> Option<(Notice, usize)> {
    let mut control = nix::cmsg_space!([u8; 64]);
    let mut bytes = [IoSliceMut::new(quote)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut bytes, Some(&mut control), flags)
            .ok()?;
    let to = message.address.as_ref().and_then(internet)?;
    let (error, from) = message.cmsgs().ok()?.find_map(|part| match part {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            Some((error, from.map(|from| IpAddr::V4(SockaddrIn::from(from).ip()))))
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            Some((error, from.map(|from| IpAddr::V6(SockaddrIn6::from(from).ip()))))
        }
        _ => None,
    })?;
    let origin = match error.ee_origin {
        FROM_ICMP | FROM_ICMP6 => Origin::Icmp(error.ee_type, error.ee_code),
        _ => Origin::Local,
    };
    let notice = Notice {
        to,
        from,
        origin,
        errno: Errno::from_raw_os_error(i32::try_from(error.ee_errno).unwrap_or(0)),
        mtu: error.ee_info,
    };
    Some((notice, message.bytes))
}

fn internet(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
}
