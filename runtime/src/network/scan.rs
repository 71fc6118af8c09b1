//! What a network namespace has, as its kernel tells.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};

use super::namespace::Namespace;
use super::netlink::{self, dump};

/// All of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Those that are up and no loopback.
    pub links: Vec<Link>,
    /// Of `links`, without link-local ones of IPv6: each kernel makes its own.
    pub addresses: Vec<Address>,
    /// Of the main table, without those that the kernel makes of addresses.
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    /// None for one that has no Ethernet address.
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub link: u32,
    pub ip: IpAddr,
    pub prefix: u8,
}

/// What becomes of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RouteKind {
    Unicast,
    Blackhole,
    Unreachable,
    Prohibit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub kind: RouteKind,
    pub destination: IpAddr,
    pub prefix: u8,
    /// None: on the link.
    pub gateway: Option<IpAddr>,
    pub source: Option<IpAddr>,
    pub metric: u32,
    /// None for those that lead nowhere.
    pub link: Option<u32>,
}

impl Route {
    pub fn is_default(&self) -> bool {
        self.prefix == 0
    }
}

/// Looks at a namespace. Blocks.
pub(crate) fn scan(namespace: &Namespace) -> io::Result<Scan> {
    namespace.inside(here)?
}

/// Addresses of a namespace, loopback's aside. Blocks.
pub(crate) fn addresses(namespace: &Namespace) -> io::Result<Vec<IpAddr>> {
    let all = namespace.inside(|| {
        let mut netlink = netlink::open()?;
        let answers =
            dump(&mut netlink, RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok::<_, io::Error>(answers.into_iter().filter_map(address).collect::<Vec<_>>())
    })??;
    Ok(all.into_iter().map(|address| address.ip).filter(|ip| !ip.is_loopback()).collect())
}

fn here() -> io::Result<Scan> {
    let mut netlink = netlink::open()?;
    let links = dump(&mut netlink, RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let links: Vec<Link> = links.into_iter().filter_map(link).collect();
    let is_ours = |index| links.iter().any(|link| link.index == index);
    let addresses = dump(&mut netlink, RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    let addresses = addresses
        .into_iter()
        .filter_map(address)
        .filter(|address| is_ours(address.link) && !is_link_local(address.ip))
        .collect();
    let routes = dump(&mut netlink, RouteNetlinkMessage::GetRoute(RouteMessage::default()))?;
    let routes = routes.into_iter().filter_map(route).collect();
    Ok(Scan { links, addresses, routes })
}

fn link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let flags = message.header.flags;
    if !flags.contains(LinkFlags::Up) || flags.contains(LinkFlags::Loopback) {
        return None;
    }
    let (mut name, mut mac, mut mtu) = (String::new(), None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(is) => name = is,
            LinkAttribute::Address(bytes) => mac = unicast(&bytes),
            LinkAttribute::Mtu(is) => mtu = Some(is),
            _ => {}
        }
    }
    Some(Link { index: message.header.index, name, mac, mtu: mtu? })
}

/// A MAC address that a station can have.
fn unicast(bytes: &[u8]) -> Option<[u8; 6]> {
    let mac: [u8; 6] = bytes.try_into().ok()?;
    (mac != [0; 6] && mac[0] & 1 == 0).then_some(mac)
}

fn address(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let (mut peer, mut local) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            // Of a point-to-point link, the other end's.
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Dadfailed) => {
                return None;
            }
            _ => {}
        }
    }
    let header = &message.header;
    Some(Address { link: header.index, ip: local.or(peer)?, prefix: header.prefix_len })
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn route(message: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let header = &message.header;
    let made =
        header.protocol == RouteProtocol::Kernel || header.flags.contains(RouteFlags::Cloned);
    if header.table != RouteHeader::RT_TABLE_MAIN || made || header.tos != 0 {
        return None;
    }
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        _ => return None,
    };
    let family = header.address_family;
    let nowhere: IpAddr = match family {
        netlink_packet_route::AddressFamily::Inet => [0; 4].into(),
        netlink_packet_route::AddressFamily::Inet6 => [0; 16].into(),
        _ => return None,
    };
    let mut route = Route {
        kind,
        destination: nowhere,
        prefix: header.destination_prefix_length,
        gateway: None,
        source: None,
        metric: 0,
        link: None,
    };
    for attribute in &message.attributes {
        apply(&mut route, attribute);
    }
    if kind != RouteKind::Unicast {
        (route.gateway, route.link) = (None, None);
    }
    // The kernel's own last word where nothing leads.
    (route.metric != u32::MAX).then_some(route)
}

fn apply(route: &mut Route, attribute: &RouteAttribute) {
    match attribute {
        RouteAttribute::Destination(to) => route.destination = ip(to).unwrap_or(route.destination),
        // One of the other family (`Via`) is a neighbour like any other to the
        // guest: the destination is on its link.
        RouteAttribute::Gateway(to) => route.gateway = ip(to),
        RouteAttribute::PrefSource(from) => route.source = ip(from),
        RouteAttribute::Priority(metric) => route.metric = *metric,
        RouteAttribute::Oif(index) => route.link = Some(*index),
        // One link, so one of them.
        RouteAttribute::MultiPath(hops) => {
            if let Some(hop) = hops.first() {
                route.link = Some(hop.interface_index);
                hop.attributes.iter().for_each(|attribute| apply(route, attribute));
            }
        }
        _ => {}
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
