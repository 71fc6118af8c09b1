use std::net::IpAddr;

use sandbox_netstack::gate::Link;
use sandbox_netstack::policy::{Cidr, Document, Layer, Live, Place};
use sandbox_vm_spec::network::{LinkSpec, Network, PolicySource};
use smoltcp::wire::EthernetAddress;

/// Least MTU of a link: what IPv4 takes for granted (RFC 791). Below it the
/// stack's packets would not fit.
const LEAST_MTU: u16 = 576;

/// A tier of the policy.
#[derive(Clone, Debug)]
pub struct Tier {
    /// As it was given, or why it is broken.
    pub source: PolicySource,
    /// As it is in force.
    pub layer: Layer,
}

impl Tier {
    /// Reads it. What cannot be read allows nothing.
    pub fn closed(source: PolicySource) -> Self {
        match Self::read(&source) {
            Ok(layer) => Self { source, layer },
            Err(reason) => Self { source: PolicySource::Broken(reason), layer: Layer::Broken },
        }
    }

    /// Reads it, or answers what is wrong with it.
    pub fn checked(which: &str, source: PolicySource) -> Result<Self, String> {
        match Self::read(&source) {
            Ok(layer) => Ok(Self { source, layer }),
            Err(reason) => Err(format!("the {which}'s policy is not put in force: {reason}")),
        }
    }

    fn read(source: &PolicySource) -> Result<Layer, String> {
        match source {
            PolicySource::Unset => Ok(Layer::Unset),
            PolicySource::Broken(reason) => Err(reason.clone()),
            PolicySource::Text(text) => match Document::load(text) {
                Ok(loaded) => Ok(Layer::Read(loaded.document.into())),
                Err(problem) => Err(problem.to_string()),
            },
        }
    }
}

/// A network that was asked for, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// As it was asked for, without its policies.
    network: Network,
    place: Place,
    /// The node's policy.
    pub node: Tier,
    /// The pod's.
    pub pod: Tier,
}

impl Settings {
    /// Checks what is asked for a guest with this link.
    pub fn new(link: &LinkSpec, mut network: Network) -> Result<Self, String> {
        let (mtu, most) = (network.mtu, link.mtu);
        if !(LEAST_MTU..=most).contains(&mtu) {
            return Err(format!(
                "an MTU of {mtu} is asked for, the link has {LEAST_MTU} to {most}"
            ));
        }
        let cluster = network.cluster.iter().map(|cidr| {
            let bad = |error| format!("{cidr:?} is not a network of the cluster: {error}");
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
        let (node, pod) = (tier(&mut network.node), tier(&mut network.pod));
        Ok(Self { network, place, node, pod })
    }

    /// Whether the link is the same, so that what is open may stay open.
    pub fn same_link(&self, other: &Self) -> bool {
        let of = |settings: &Self| {
            let Network { guest, bound, mtu, gateway4, gateway6, .. } = &settings.network;
            (guest.clone(), bound.clone(), *mtu, *gateway4, *gateway6)
        };
        of(self) == of(other)
    }

    /// Whether the same is allowed.
    pub fn same_policy(&self, other: &Self) -> bool {
        self.place == other.place
            && self.node.source == other.node.source
            && self.pod.source == other.pod.source
    }

    /// The guest's end of the link.
    pub fn link(&self, mac: [u8; 6]) -> Link {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for ip in &self.network.guest {
            match ip {
                IpAddr::V4(ip) => v4.push(*ip),
                IpAddr::V6(ip) => v6.push(*ip),
            }
        }
        Link::new(EthernetAddress(mac), &v4, &v6)
    }

    /// What is asked for, without its policies.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where the pod is.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// The policies, in force for the first time.
    pub fn live(&self) -> Live {
        Live::new(&self.node.layer, &self.pod.layer, self.place())
    }
}
