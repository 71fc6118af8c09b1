use std::net::IpAddr;
use std::sync::Arc;

use sandbox_devices::net::Network as DeviceNetwork;
use sandbox_netstack::gate::Link;
use sandbox_netstack::policy::{Cidr, Layer, Place, Policy};
use sandbox_netstack::port::Capabilities;
use sandbox_netstack::stack::{Config, RINGS};
use sandbox_vm_spec::network::{GATEWAY_MAC, LinkSpec, Network, PolicySource};
use smoltcp::wire::EthernetAddress;

/// IPv4's least MTU (RFC 791). The stack's packets do not fit in less.
const LEAST_MTU: u16 = 576;

/// A tier of the policy.
pub struct Tier {
    /// As the client sent it, or why it is broken.
    pub source: PolicySource,
    layer: Layer,
}

impl Tier {
    /// Parses a tier. One that cannot be parsed denies everything.
    pub fn closed(source: PolicySource) -> Self {
        match parse(&source) {
            Ok(layer) => Self { source, layer },
            Err(reason) => Self { source: PolicySource::Broken(reason), layer: Layer::Broken },
        }
    }

    /// Parses a tier; `which` names it in the error.
    pub fn checked(which: &str, source: PolicySource) -> Result<Self, String> {
        match parse(&source) {
            Ok(layer) => Ok(Self { source, layer }),
            Err(reason) => Err(format!("the {which}'s policy is not put in force: {reason}")),
        }
    }
}

fn parse(source: &PolicySource) -> Result<Layer, String> {
    match source {
        PolicySource::Unset => Ok(Layer::Unset),
        PolicySource::Broken(reason) => Err(reason.clone()),
        PolicySource::Text(text) => Layer::load(text).map_err(|problem| problem.to_string()),
    }
}

/// Both tiers that a client can set.
pub struct Tiers {
    pub node: Tier,
    pub pod: Tier,
}

/// The pod's network without its policies, checked.
#[derive(PartialEq)]
pub struct Settings {
    network: Network,
    place: Place,
}

impl Settings {
    /// Checks the network of a guest with this link, and takes its policies out.
    pub fn new(link: &LinkSpec, mut network: Network) -> Result<(Self, Tiers), String> {
        let (mtu, most) = (network.mtu, link.mtu);
        if !(LEAST_MTU..=most).contains(&mtu) {
            return Err(format!("invalid MTU of {mtu}: the link has {LEAST_MTU} to {most}"));
        }
        let cluster = network.cluster.iter().map(|cidr| {
            let bad = |error| format!("invalid network of the cluster {cidr:?}: {error}");
            cidr.parse::<Cidr>().map_err(bad)
        });
        let place = Place {
            host: network.host.clone(),
            resolvers: network.resolvers.clone(),
            cluster: cluster.collect::<Result<_, _>>()?,
        };
        let tier = |source: &mut PolicySource| {
            Tier::closed(std::mem::replace(source, PolicySource::Unset))
        };
        let tiers = Tiers { node: tier(&mut network.node), pod: tier(&mut network.pod) };
        Ok((Self { network, place }, tiers))
    }

    /// Whether the addresses are the same, so that open flows can stay open.
    pub fn same_link(&self, other: &Self) -> bool {
        let of = |settings: &Self| {
            let Network { guest, bound, outside, mtu, gateway4, gateway6, .. } = &settings.network;
            (guest.clone(), bound.clone(), *outside, *mtu, *gateway4, *gateway6)
        };
        of(self) == of(other)
    }

    pub fn policy(&self, tiers: &Tiers, generation: u64) -> Arc<Policy> {
        let Tiers { node, pod } = tiers;
        Policy::new(&node.layer, &pod.layer, self.place.clone(), generation).into()
    }

    /// The network for the device of a guest with this link.
    pub fn network(&self, link: &LinkSpec, policy: Arc<Policy>) -> DeviceNetwork {
        let network = &self.network;
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for ip in &network.guest {
            match ip {
                IpAddr::V4(ip) => v4.push(*ip),
                IpAddr::V6(ip) => v6.push(*ip),
            }
        }
        let config = Config {
            link: Link::new(EthernetAddress(link.mac), &v4, &v6),
            mac: EthernetAddress(GATEWAY_MAC),
            gateway4: network.gateway4,
            gateway6: network.gateway6,
            pod: network.bound.clone(),
            mtu: network.mtu,
            capabilities: Capabilities::default(),
            rings: RINGS,
            seed: 0,
        };
        DeviceNetwork { config, outside: network.outside, policy }
    }
}
