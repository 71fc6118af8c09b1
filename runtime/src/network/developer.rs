//! The network of a pod that was given none: private addresses, and the
//! host's own network behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::interface::Interface;
use super::scan::{Route, RouteKind};

/// Of the guest's interface.
const NAME: &str = "eth0";
/// That of Ethernet: what lies behind the host is not known.
pub(super) const MTU: u16 = 1500;

/// The interface of a guest with these addresses.
pub(super) fn interface(addresses: &[IpNet]) -> Interface {
    let mut interface = Interface {
        name: NAME.to_owned(),
        mac: None,
        mtu: MTU,
        addresses: addresses.to_vec(),
        routes: Vec::new(),
        gateway4: Ipv4Addr::new(169, 254, 1, 1),
        gateway6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
    };
    for own in addresses {
        match gateway(own) {
            IpAddr::V4(gateway) => interface.gateway4 = gateway,
            IpAddr::V6(gateway) => interface.gateway6 = gateway,
        }
        let route = default(gateway(own));
        if !interface.routes.iter().any(|had| had.destination == route.destination) {
            interface.routes.push(route);
        }
    }
    interface
}

/// The second address of the network, as in other userspace networks, or the
/// first where the second is the guest's.
fn gateway(own: &IpNet) -> IpAddr {
    // Those of IPv6 begin with the network's own.
    let mut hosts = own.hosts().filter(|ip| *ip != own.network());
    let (first, second) = (hosts.next(), hosts.next());
    let free = [second, first].into_iter().flatten().find(|ip| *ip != own.addr());
    free.unwrap_or(own.network())
}

fn default(gateway: IpAddr) -> Route {
    let destination: IpAddr =
        if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Route {
        kind: RouteKind::Unicast,
        destination,
        prefix: 0,
        gateway: Some(gateway),
        source: None,
        metric: 0,
        link: None,
    }
}

#[cfg(test)]
mod tests;
