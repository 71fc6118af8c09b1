use std::net::{IpAddr, Ipv4Addr};

use super::{Cidr, Forms};

/// Where Docker answers the names of a network's containers: in the pod's own
/// namespace, although the address is a loopback's. Other servers on a loopback
/// are programs of the guest.
pub const EMBEDDED_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Where a pod is: what its policy must know of the node and the network, from
/// the node and the pod's configuration and never from the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Addresses of the node itself, in every namespace that is its own.
    pub host: Vec<IpAddr>,
    /// DNS servers that the pod was given: the pinned ones, unless the policy
    /// names others.
    pub resolvers: Vec<IpAddr>,
    /// The cluster's networks, for a policy that does not list them itself.
    pub cluster: Vec<Cidr>,
}

impl Place {
    pub(super) fn is_host(&self, address: IpAddr) -> bool {
        self.host.iter().any(|own| Forms::of(*own).canonical() == address)
    }

    pub(super) fn is_resolver(&self, address: IpAddr) -> bool {
        self.resolvers.iter().any(|own| Forms::of(*own).canonical() == address)
    }
}
