//! rtnetlink messages for what a plan has.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
    RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use sandbox_agent_protocol::agent::RouteKind;
use sandbox_netlink::route_request;

use super::plan::{Cidr, Item, Link, Route};

/// Sets an item on interface `index`, whether or not it is there.
pub fn set(index: u32, item: &Item) -> Vec<u8> {
    let message = match item {
        Item::Address { cidr, prefix_route } => {
            RouteNetlinkMessage::NewAddress(address(index, *cidr, *prefix_route))
        }
        Item::Neighbour { ip, mac } => {
            RouteNetlinkMessage::NewNeighbour(neighbour(index, *ip, *mac))
        }
        Item::Route(given) => RouteNetlinkMessage::NewRoute(route(index, given)),
    };
    route_request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
}

/// Sets a route whose gateway is on the link, whatever the addresses are.
pub fn set_onlink(index: u32, given: &Route) -> Vec<u8> {
    let mut message = route(index, given);
    message.header.flags = RouteFlags::Onlink;
    route_request(RouteNetlinkMessage::NewRoute(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
}

/// Removes what [`set`] has set.
pub fn remove(index: u32, item: &Item) -> Vec<u8> {
    let message = match item {
        Item::Address { cidr, prefix_route } => {
            RouteNetlinkMessage::DelAddress(address(index, *cidr, *prefix_route))
        }
        Item::Neighbour { ip, mac } => {
            RouteNetlinkMessage::DelNeighbour(neighbour(index, *ip, *mac))
        }
        Item::Route(given) => RouteNetlinkMessage::DelRoute(route(index, given)),
    };
    route_request(message, NLM_F_ACK)
}

/// Gives interface `index` its name.
pub fn rename(index: u32, name: &str) -> Vec<u8> {
    link(index, vec![LinkAttribute::IfName(name.to_owned())], LinkFlags::empty())
}

/// Gives interface `index` the rest of what it has.
pub fn set_link(index: u32, given: &Link) -> Vec<u8> {
    let mac = given.mac.map(|mac| LinkAttribute::Address(mac.to_vec()));
    let mtu = given.mtu.map(LinkAttribute::Mtu);
    link(index, mac.into_iter().chain(mtu).collect(), LinkFlags::empty())
}

/// Switches interface `index` on or off.
pub fn switch(index: u32, on: bool) -> Vec<u8> {
    link(index, Vec::new(), if on { LinkFlags::Up } else { LinkFlags::empty() })
}

fn link(index: u32, attributes: Vec<LinkAttribute>, flags: LinkFlags) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if attributes.is_empty() {
        message.header.flags = flags;
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes = attributes;
    route_request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK)
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address(index: u32, cidr: Cidr, prefix_route: bool) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(cidr.ip);
    message.header.prefix_len = cidr.prefix;
    message.header.index = index;
    let mut flags = AddressFlags::empty();
    if cidr.ip.is_ipv6() {
        // The host guarantees that the address is unique.
        message.header.flags = AddressHeaderFlags::Nodad;
        flags |= AddressFlags::Nodad;
    }
    flags.set(AddressFlags::Noprefixroute, !prefix_route);
    message.attributes = vec![
        AddressAttribute::Local(cidr.ip),
        AddressAttribute::Address(cidr.ip),
        AddressAttribute::Flags(flags),
    ];
    message.attributes.extend(cidr.broadcast().map(AddressAttribute::Broadcast));
    message
}

fn neighbour(index: u32, ip: IpAddr, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    let destination = match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    };
    message.attributes = vec![
        NeighbourAttribute::Destination(destination),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    message
}

fn route(index: u32, given: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let destination = given.destination;
    message.header.address_family = family(destination.ip);
    message.header.destination_prefix_length = destination.prefix;
    message.header.table = match destination.ip.is_loopback() {
        // The kernel looks there first, and finds all of 127.0.0.0/8.
        true => libc::RT_TABLE_LOCAL,
        false => RouteHeader::RT_TABLE_MAIN,
    };
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = match given.kind {
        RouteKind::UNICAST => RouteType::Unicast,
        RouteKind::BLACKHOLE => RouteType::BlackHole,
        RouteKind::UNREACHABLE => RouteType::Unreachable,
        RouteKind::PROHIBIT => RouteType::Prohibit,
    };
    let unicast = given.kind == RouteKind::UNICAST;
    if unicast && given.gateway.is_none() && destination.ip.is_ipv4() {
        message.header.scope = RouteScope::Link;
    }
    let attributes = &mut message.attributes;
    if destination.prefix > 0 {
        attributes.push(RouteAttribute::Destination(destination.ip.into()));
    }
    if unicast {
        attributes.push(RouteAttribute::Oif(index));
    }
    attributes.extend(given.gateway.map(|gateway| match gateway {
        IpAddr::V6(gateway) if destination.ip.is_ipv4() => {
            RouteAttribute::Via(RouteVia::Inet6(gateway))
        }
        gateway => RouteAttribute::Gateway(gateway.into()),
    }));
    attributes.extend(given.source.map(|source| RouteAttribute::PrefSource(source.into())));
    if given.metric != 0 {
        attributes.push(RouteAttribute::Priority(given.metric));
    }
    message
}
