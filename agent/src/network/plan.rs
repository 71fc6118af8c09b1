//! A ConfigureNetwork request, checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sandbox_agent_protocol::agent::{self, ConfigureNetworkRequest, RouteKind};

/// Most addresses of the interface: far more than any pod has. Each is a
/// message to the kernel while nothing else is served.
pub const MAX_ADDRESSES: usize = 256;

/// Most routes, for the same reason. A node's whole table may be given.
pub const MAX_ROUTES: usize = 4096;

/// Longest resolv.conf or hosts: they stay in the guest's memory.
pub const MAX_FILE: usize = 256 * 1024;

/// `IFNAMSIZ`, without the NUL.
const MAX_NAME: usize = 15;

/// Smallest MTU that IPv4 can do with.
const MIN_MTU: u32 = 68;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{subject}: {why}")]
pub struct PlanError {
    subject: String,
    why: String,
}

fn wrong(subject: impl Into<String>, why: impl Into<String>) -> PlanError {
    PlanError { subject: subject.into(), why: why.into() }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// None: the guest has no network but loopback.
    pub link: Option<Link>,
    /// In the order in which they are set.
    pub items: Vec<Item>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// Its address; none leaves it.
    pub mac: Option<[u8; 6]>,
    /// In bytes; none leaves it.
    pub mtu: Option<u32>,
}

/// One thing that the kernel keeps, and that is set and removed by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An address of the interface.
    Address {
        /// The address with its network.
        cidr: Cidr,
        /// Whether the kernel makes the route to its network. It does not
        /// where the request has one.
        prefix_route: bool,
    },
    /// A neighbour that is never asked for its MAC address.
    Neighbour {
        ip: IpAddr,
        mac: [u8; 6],
    },
    Route(Route),
}

/// An address and how many bits of it are its network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub ip: IpAddr,
    pub prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: Cidr,
    /// None: on the link.
    pub gateway: Option<IpAddr>,
    /// None: the kernel chooses.
    pub source: Option<IpAddr>,
    /// 0: the kernel's own.
    pub metric: u32,
    /// What becomes of the packets.
    pub kind: RouteKind,
}

impl Plan {
    pub fn new(request: &ConfigureNetworkRequest) -> Result<Self, PlanError> {
        check_files(request)?;
        if request.interface.is_empty() {
            let bare = request.addresses.is_empty() && request.routes.is_empty();
            let refused = wrong("interface", "it has no name, but addresses or routes");
            return if bare { Ok(Self::default()) } else { Err(refused) };
        }
        bounded("addresses", request.addresses.len(), MAX_ADDRESSES)?;
        bounded("routes", request.routes.len(), MAX_ROUTES)?;
        let mut routes = request.routes.iter().map(route).collect::<Result<Vec<_>, _>>()?;
        // A gateway must be reachable when its route comes.
        routes.sort_by_key(|route| route.gateway.is_some());
        let addresses = request.addresses.iter().map(|given| address(given, &routes));
        let mut items = addresses.collect::<Result<Vec<_>, _>>()?;
        items.extend(neighbours(&request.gateway_mac, &routes)?);
        items.extend(routes.into_iter().map(Item::Route));
        Ok(Self { link: Some(link(request)?), items })
    }
}

fn bounded(subject: &str, count: usize, most: usize) -> Result<(), PlanError> {
    if count <= most {
        return Ok(());
    }
    Err(wrong(subject, format!("{count} are too many: the most is {most}")))
}

fn check_files(request: &ConfigureNetworkRequest) -> Result<(), PlanError> {
    for (name, text) in [("resolv_conf", &request.resolv_conf), ("hosts", &request.hosts)] {
        if text.len() > MAX_FILE {
            let why = format!("{} bytes are too many: the most is {MAX_FILE}", text.len());
            return Err(wrong(name, why));
        }
    }
    Ok(())
}

fn link(request: &ConfigureNetworkRequest) -> Result<Link, PlanError> {
    let name = &request.interface;
    // '%' would make a template of it, ':' an alias, '/' another file.
    let lawful = |b: u8| b.is_ascii_graphic() && !b"/:%".contains(&b);
    let own = ["lo", ".", "..", "all", "default"].contains(&name.as_str());
    if name.len() > MAX_NAME || own || !name.bytes().all(lawful) {
        let why = format!("{name:?} cannot be the name of a network interface");
        return Err(wrong("interface", why));
    }
    if request.mtu != 0 && !(MIN_MTU..=u16::MAX.into()).contains(&request.mtu) {
        let why = format!("{} is not between {MIN_MTU} and {}", request.mtu, u16::MAX);
        return Err(wrong("mtu", why));
    }
    let mtu = Some(request.mtu).filter(|mtu| *mtu != 0);
    Ok(Link { name: name.clone(), mac: mac("mac", &request.mac)?, mtu })
}

fn mac(subject: &str, bytes: &[u8]) -> Result<Option<[u8; 6]>, PlanError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mac: [u8; 6] = bytes
        .try_into()
        .map_err(|_| wrong(subject, format!("{} bytes instead of 6", bytes.len())))?;
    if mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(wrong(subject, "it is not the address of one interface"));
    }
    Ok(Some(mac))
}

fn ip(bytes: &[u8]) -> Result<IpAddr, String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::V4(v4.into()));
    }
    match <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from) {
        Ok(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("{v6} is an IPv4 address in the form of IPv6"))
        }
        Ok(v6) => Ok(v6.into()),
        Err(_) => Err(format!("{} bytes instead of 4 or 16", bytes.len())),
    }
}

fn cidr(given: &agent::Address) -> Result<Cidr, String> {
    let ip = ip(&given.ip)?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    match u8::try_from(given.prefix) {
        Ok(prefix) if prefix <= bits => Ok(Cidr { ip, prefix }),
        _ => Err(format!("{ip}/{}: the prefix has at most {bits} bits", given.prefix)),
    }
}

/// Whether it can be the address of one host on a link.
fn is_host(ip: IpAddr) -> bool {
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast)
}

fn address(given: &agent::Address, routes: &[Route]) -> Result<Item, PlanError> {
    let cidr = cidr(given).map_err(|why| wrong("address", why))?;
    if !is_host(cidr.ip) {
        return Err(wrong(format!("address {cidr}"), "an interface cannot have it"));
    }
    let network = cidr.network();
    let prefix_route = !routes.iter().any(|route| route.destination == network);
    Ok(Item::Address { cidr, prefix_route })
}

fn route(given: &agent::Route) -> Result<Route, PlanError> {
    let destination = given.destination.as_ref().ok_or_else(|| wrong("route", "no destination"))?;
    let destination = cidr(destination).map_err(|why| wrong("route", why))?;
    let refused = |why: &str| wrong(format!("route to {destination}"), why);
    if destination.network() != destination {
        return Err(refused("it has bits set behind its prefix"));
    }
    let optional = |bytes: &[u8], what: &str| match bytes {
        [] => Ok(None),
        bytes => ip(bytes).map(Some).map_err(|why| refused(&format!("{what}: {why}"))),
    };
    let route = Route {
        destination,
        gateway: optional(&given.gateway, "gateway")?,
        source: optional(&given.source, "source")?,
        metric: given.metric,
        kind: given.kind.enum_value().map_err(|_| refused("its kind is unknown"))?,
    };
    route.check().map_err(refused)?;
    Ok(route)
}

impl Route {
    /// Whether it takes an address from the guest's loopback to the link.
    pub fn leads_off_loopback(&self) -> bool {
        self.destination.ip.is_loopback() && self.kind == RouteKind::UNICAST
    }

    fn check(&self) -> Result<(), &'static str> {
        let v4 = self.destination.ip.is_ipv4();
        if self.kind != RouteKind::UNICAST && self.gateway.is_some() {
            return Err("it drops packets and has a gateway");
        }
        if self.destination.ip.is_loopback() && (!v4 || self.destination.prefix != 32) {
            return Err("of a loopback it can only be to one IPv4 address");
        }
        if self.gateway.is_some_and(|gateway| !is_host(gateway)) {
            return Err("its gateway cannot be a host's address");
        }
        if self.gateway.is_some_and(|gateway| gateway.is_ipv4() && !v4) {
            return Err("IPv6 has no gateway with an IPv4 address");
        }
        if self.source.is_some_and(|source| source.is_ipv4() != v4) {
            return Err("its source is of the other IP version");
        }
        Ok(())
    }
}

fn neighbours(given: &[u8], routes: &[Route]) -> Result<Vec<Item>, PlanError> {
    let Some(mac) = mac("gateway_mac", given)? else {
        return Ok(Vec::new());
    };
    let on_link = |route: &Route| route.leads_off_loopback().then_some(route.destination.ip);
    let gateway = |route| on_link(route).or(route.gateway);
    let mut gateways: Vec<IpAddr> = routes.iter().filter_map(gateway).collect();
    gateways.sort();
    gateways.dedup();
    Ok(gateways.into_iter().map(|ip| Item::Neighbour { ip, mac }).collect())
}

impl Cidr {
    /// The network that the address is in.
    pub fn network(self) -> Self {
        let ip = match self.ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                Ipv4Addr::from_bits(ip.to_bits() & mask).into()
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                Ipv6Addr::from_bits(ip.to_bits() & mask).into()
            }
        };
        Self { ip, ..self }
    }

    /// The address by which IPv4 reaches all of the network, if it has one.
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        match self.ip {
            IpAddr::V4(ip) if self.prefix < 31 => {
                Some(Ipv4Addr::from_bits(ip.to_bits() | (u32::MAX >> self.prefix)))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// What an error calls it.
impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address { cidr, .. } => write!(f, "address {cidr}"),
            Self::Neighbour { ip, .. } => write!(f, "neighbour {ip}"),
            Self::Route(Route { destination, gateway: Some(gateway), .. }) => {
                write!(f, "route to {destination} via {gateway}")
            }
            Self::Route(Route { destination, .. }) => write!(f, "route to {destination}"),
        }
    }
}

#[cfg(test)]
mod tests;
