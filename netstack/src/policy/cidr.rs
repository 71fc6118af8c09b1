use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Text that is no network.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("`{0}` is not a network; write it as 10.0.0.0/8 or 2001:db8::/32")]
    Syntax(String),
    #[error("`{text}`: the prefix is longer than the address; at most /{width} is one address")]
    Prefix {
        text: String,
        /// Bits of an address of that family.
        width: u8,
    },
    /// Bits behind the prefix: the network that is meant is unknown.
    #[error("`{text}` has bits set behind its prefix; write {network} for the network")]
    HostBits { text: String, network: Cidr },
    /// IPv4 in the clothes of IPv6: addresses are compared in their IPv4 form.
    #[error("`{0}` is an IPv4 network mapped into IPv6; write it as IPv4")]
    Mapped(String),
}

/// A network: an address and how many of its bits count. No other bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(IpNet);

impl Cidr {
    /// The network of one address.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }

    /// The first `length` bits of `address`; all of them if there are fewer.
    pub fn covering(address: IpAddr, length: u8) -> Self {
        let width = IpNet::from(address).max_prefix_len();
        let net = IpNet::new(address, length.min(width)).unwrap_or(IpNet::from(address));
        Self(net.trunc())
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether every address of `other` is in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// How many bits count.
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let syntax = || CidrError::Syntax(text.chars().take(64).collect());
        let (address, length) = text.split_once('/').ok_or_else(syntax)?;
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(syntax());
        }
        let width = IpNet::from(address).max_prefix_len();
        let net = length.parse().ok().and_then(|length| IpNet::new(address, length).ok());
        let net = net.ok_or(CidrError::Prefix { text: text.to_owned(), width })?;
        if net.trunc() != net {
            let network = Self(net.trunc());
            return Err(CidrError::HostBits { text: text.to_owned(), network });
        }
        match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() && net.prefix_len() >= 96 => {
                Err(CidrError::Mapped(text.to_owned()))
            }
            _ => Ok(Self(net)),
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
