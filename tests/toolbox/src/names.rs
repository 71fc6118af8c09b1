//! Names and interfaces, as programs see them.

use std::net::{IpAddr, ToSocketAddrs};

use anyhow::Result;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use crate::talk::tell;

/// What the C library finds for a name: /etc/hosts, then the DNS servers of
/// /etc/resolv.conf.
pub fn addresses(name: &str) -> Result<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = (name, 0).to_socket_addrs()?.map(|address| address.ip()).collect();
    found.dedup();
    Ok(found)
}

/// Prints them, sorted, in one line.
pub fn look_up(name: &str) -> Result<()> {
    let mut found = match addresses(name) {
        Ok(found) => found,
        Err(error) => return tell(&format!("none: {error}")),
    };
    found.sort();
    tell(&found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "))
}

/// Prints each interface with its MAC address and MTU, and each address with
/// the length of its prefix.
pub fn interfaces() -> Result<()> {
    let mut lines = vec![];
    for entry in getifaddrs()? {
        let name = &entry.interface_name;
        let Some(address) = entry.address else { continue };
        if let Some(link) = address.as_link_addr() {
            let mac: Vec<String> =
                link.addr().unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
            let mtu = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu"));
            let mtu = mtu.unwrap_or_default();
            lines.push(format!("{name} link {} mtu {}", mac.join(":"), mtu.trim()));
        } else if let Some(ip) = ip_of(&address) {
            let mask = entry.netmask.as_ref().and_then(ip_of);
            let bits = mask.map_or(0, |mask| match mask {
                IpAddr::V4(mask) => mask.to_bits().count_ones(),
                IpAddr::V6(mask) => mask.to_bits().count_ones(),
            });
            lines.push(format!("{name} address {ip}/{bits}"));
        }
    }
    lines.sort();
    lines.iter().try_for_each(|line| tell(line))
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    match address.family()? {
        nix::sys::socket::AddressFamily::Inet => Some(address.as_sockaddr_in()?.ip().into()),
        nix::sys::socket::AddressFamily::Inet6 => Some(address.as_sockaddr_in6()?.ip().into()),
        _ => None,
    }
}
