//! The interface as the guest gets it.

use std::net::IpAddr;

use ipnet::IpNet;
use sandbox_agent_protocol::agent::{self, ConfigureNetworkRequest, RouteKind as Kind};
use sandbox_netstack::policy::EMBEDDED_RESOLVER;
use sandbox_vm_spec::network::{GATEWAY_MAC, LinkSpec};

use super::interface::Interface;
use super::resolv::Resolv;
use super::scan::{Route, RouteKind};

/// The guest's network settings.
pub(super) struct Guest<'a> {
    pub interface: Interface,
    pub link: LinkSpec,
    pub resolv: &'a Resolv,
}

impl Guest<'_> {
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.interface.addresses.iter().map(IpNet::addr).collect()
    }

    /// No larger than its driver was told at the boot.
    pub fn mtu(&self) -> u16 {
        self.interface.mtu.min(self.link.mtu)
    }

    pub fn request(&self) -> ConfigureNetworkRequest {
        ConfigureNetworkRequest {
            interface: self.interface.name.clone(),
            mac: self.link.mac.to_vec(),
            gateway_mac: GATEWAY_MAC.to_vec(),
            mtu: self.mtu().into(),
            addresses: self
                .interface
                .addresses
                .iter()
                .map(|own| address(own.addr(), own.prefix_len()))
                .collect(),
            routes: self.interface.routes.iter().map(route).chain(self.to_resolver()).collect(),
            resolv_conf: self.resolv.text.clone(),
            ..Default::default()
        }
    }

    /// Docker's own resolver is in the pod's namespace, and not in the guest
    /// as other servers on a loopback are.
    fn to_resolver(&self) -> Option<agent::Route> {
        let source = self.addresses().into_iter().find(IpAddr::is_ipv4)?;
        self.resolv.servers.contains(&EMBEDDED_RESOLVER).then(|| agent::Route {
            destination: Some(address(EMBEDDED_RESOLVER, 32)).into(),
            source: octets(source),
            kind: Kind::UNICAST.into(),
            ..Default::default()
        })
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn address(ip: IpAddr, prefix: u8) -> agent::Address {
    agent::Address { ip: octets(ip), prefix: prefix.into(), ..Default::default() }
}

fn route(route: &Route) -> agent::Route {
    let kind = match route.kind {
        RouteKind::Unicast => Kind::UNICAST,
        RouteKind::Blackhole => Kind::BLACKHOLE,
        RouteKind::Unreachable => Kind::UNREACHABLE,
        RouteKind::Prohibit => Kind::PROHIBIT,
    };
    agent::Route {
        destination: Some(address(route.destination, route.prefix)).into(),
        gateway: route.gateway.map(octets).unwrap_or_default(),
        source: route.source.map(octets).unwrap_or_default(),
        metric: route.metric,
        kind: kind.into(),
        ..Default::default()
    }
}
