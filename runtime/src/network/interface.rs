//! The interface of a namespace that the guest takes the place of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::scan::{Link, Route, RouteKind, Scan};

/// Most addresses of a guest: its gate compares each with every frame.
const MAX_ADDRESSES: usize = 64;
/// Most routes of a guest: they are one message to the agent.
const MAX_ROUTES: usize = 512;
/// Whom ICMP errors come from where the namespace has no gateway; as the
/// gateways of some CNIs, an address of the link alone.
const STAND_IN4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const STAND_IN6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What the guest's only interface is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub name: String,
    pub mac: Option<[u8; 6]>,
    pub mtu: u16,
    pub addresses: Vec<IpNet>,
    /// In the order in which they can be set.
    pub routes: Vec<Route>,
    /// Our own address in the guest's eyes.
    pub gateway4: Ipv4Addr,
    /// The same for IPv6.
    pub gateway6: Ipv6Addr,
}

impl Scan {
    /// The interface with the best default route, else the first that has
    /// addresses; none where there is only loopback.
    pub fn interface(&self) -> Option<Interface> {
        let link = self.link()?;
        let addresses: Vec<IpNet> = self
            .addresses
            .iter()
            .filter(|address| address.link == link.index)
            .filter_map(|address| IpNet::new(address.ip, address.prefix).ok())
            .take(MAX_ADDRESSES)
            .collect();
        let mut interface = Interface {
            name: link.name.clone(),
            mac: link.mac,
            // An Ethernet frame of virtio has no larger one.
            mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
            addresses,
            routes: Vec::new(),
            gateway4: STAND_IN4,
            gateway6: STAND_IN6,
        };
        interface.set_routes(&self.routes, link.index);
        interface.set_gateways();
        Some(interface)
    }

    fn link(&self) -> Option<&Link> {
        let has = |link: &&Link| self.addresses.iter().any(|address| address.link == link.index);
        let rank = |link: &&Link| {
            let defaults = self
                .routes
                .iter()
                .filter(|route| route.is_default() && route.link == Some(link.index));
            // IPv4's first, then the lowest metric, then the first link.
            let best = defaults.map(|route| (route.destination.is_ipv6(), route.metric)).min();
            (best.is_none(), best, link.index)
        };
        self.links.iter().filter(has).min_by_key(rank)
    }
}

impl Interface {
    fn set_routes(&mut self, all: &[Route], link: u32) {
        let ours = |route: &&Route| route.link.is_none_or(|index| index == link);
        let mut routes: Vec<Route> = all.iter().filter(ours).copied().collect();
        for route in &mut routes {
            route.source = route.source.filter(|source| self.has(*source));
            route.link = None;
        }
        let unreached: Vec<Route> = routes
            .iter()
            .filter_map(|route| route.gateway)
            .filter(|gateway| !self.reaches(*gateway, &routes))
            .map(on_link)
            .collect();
        for route in unreached {
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
        // What a gateway is reached by comes before it.
        routes.sort_by_key(|route| (route.gateway.is_some(), std::cmp::Reverse(route.prefix)));
        routes.truncate(MAX_ROUTES);
        self.routes = routes;
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == ip)
    }

    fn reaches(&self, gateway: IpAddr, routes: &[Route]) -> bool {
        let link_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let connected = self.addresses.iter().any(|own| own.contains(&gateway));
        let routed = routes.iter().any(|route| {
            let to = IpNet::new(route.destination, route.prefix);
            route.kind == RouteKind::Unicast
                && route.gateway.is_none()
                && to.is_ok_and(|to| to.contains(&gateway))
        });
        link_local || connected || routed
    }

    fn set_gateways(&mut self) {
        let of = |ipv6: bool| {
            let family = self.routes.iter().filter(move |r| r.destination.is_ipv6() == ipv6);
            let gateways = family.filter_map(|r| Some((r.prefix, r.metric, r.gateway?)));
            gateways.min().map(|(_, _, gateway)| gateway)
        };
        let (ipv4, ipv6) = (of(false), of(true));
        if let Some(IpAddr::V6(gateway)) = ipv6 {
            self.gateway6 = gateway;
        }
        match ipv4 {
            Some(IpAddr::V4(gateway)) => self.gateway4 = gateway,
            _ => self.stand_in(),
        }
    }

    /// Without a gateway: an address that the guest can answer to.
    fn stand_in(&mut self) {
        let neighbour = self.addresses.iter().find_map(|own| match own {
            IpNet::V4(net) => neighbour(*net),
            IpNet::V6(_) => None,
        });
        let has_ipv4 = self.addresses.iter().any(|own| own.addr().is_ipv4());
        match neighbour {
            Some(neighbour) => self.gateway4 = neighbour,
            None if has_ipv4 && !self.reaches(STAND_IN4.into(), &self.routes) => {
                self.routes.insert(0, on_link(STAND_IN4.into()));
            }
            None => {}
        }
    }
}

/// The first other address of a network, if it has one.
pub(super) fn neighbour(net: Ipv4Net) -> Option<Ipv4Addr> {
    net.hosts().take(2).find(|ip| *ip != net.addr())
}

fn on_link(ip: IpAddr) -> Route {
    Route {
        kind: RouteKind::Unicast,
        destination: ip,
        prefix: if ip.is_ipv4() { 32 } else { 128 },
        gateway: None,
        source: None,
        metric: 0,
        link: None,
    }
}

#[cfg(test)]
mod tests;
