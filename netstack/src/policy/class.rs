use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{Cidr, Invalid, Place};

/// Longest name of a class: what a person writes, and fits into a line.
const MAX_CLASS_NAME: usize = 63;

/// Services that hand out a cloud's credentials to any client.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// A kind of address that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The clouds' metadata services.
    Metadata,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// An address of the node itself.
    Host,
    /// `10.0.0.0/8`, `172.16.0.0/12`, `192.168.0.0/16`, `fc00::/7`.
    Private,
    /// `100.64.0.0/10`: carriers' and overlays' addresses (RFC 6598).
    Cgnat,
    /// The loopback of the pod's namespace: port forwards.
    Localhost,
    /// What is in no other class, built in or named `cluster`, and valid.
    Public,
}

impl Class {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Metadata,
        Self::LinkLocal,
        Self::Host,
        Self::Private,
        Self::Cgnat,
        Self::Localhost,
        Self::Public,
    ];

    /// What it is called in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::LinkLocal => "linklocal",
            Self::Host => "host",
            Self::Private => "private",
            Self::Cgnat => "cgnat",
            Self::Localhost => "localhost",
            Self::Public => "public",
        }
    }

    /// Whether an address in its canonical form is of the class.
    pub(super) fn contains(self, address: IpAddr, place: &Place) -> bool {
        match (self, address) {
            (Self::Metadata, _) => METADATA.contains(&address),
            (Self::LinkLocal, IpAddr::V4(v4)) => v4.is_link_local(),
            (Self::LinkLocal, IpAddr::V6(v6)) => v6.is_unicast_link_local(),
            (Self::Host, _) => place.is_host(address),
            (Self::Private, IpAddr::V4(v4)) => v4.is_private(),
            (Self::Private, IpAddr::V6(v6)) => v6.is_unique_local(),
            (Self::Cgnat, IpAddr::V4(v4)) => matches!(v4.octets(), [100, 64..=127, ..]),
            (Self::Cgnat, IpAddr::V6(_)) => false,
            (Self::Localhost, _) => address.is_loopback(),
            (Self::Public, _) => {
                let special =
                    |class: &Self| *class != Self::Public && class.contains(address, place);
                Invalid::of(address).is_none()
                    && !place.cluster.iter().any(|network| network.contains(address))
                    && !Self::ALL.iter().any(special)
            }
        }
    }

    /// Whether every address of the network is of the class, as far as that
    /// can be told without its [`Place`].
    pub(super) fn covers(self, cidr: &Cidr) -> bool {
        let within = |networks: &[(IpAddr, u8)]| {
            networks.iter().any(|(address, length)| Cidr::covering(*address, *length).covers(cidr))
        };
        let v4 = |a, b| IpAddr::V4(Ipv4Addr::new(a, b, 0, 0));
        let v6 = |first| IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0));
        match self {
            Self::Metadata => METADATA.iter().any(|address| Cidr::host(*address) == *cidr),
            Self::LinkLocal => within(&[(v4(169, 254), 16), (v6(0xfe80), 10)]),
            Self::Private => {
                let v4s = [(v4(10, 0), 8), (v4(172, 16), 12), (v4(192, 168), 16)];
                within(&v4s) || within(&[(v6(0xfc00), 7)])
            }
            Self::Cgnat => within(&[(v4(100, 64), 10)]),
            Self::Localhost => within(&[(v4(127, 0), 8), (Ipv6Addr::LOCALHOST.into(), 128)]),
            Self::Host | Self::Public => false,
        }
    }
}

/// A value of a rule's `class`: a built-in class, or one that the file defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ClassName {
    /// One that is built in; `node` is another word for `host`.
    BuiltIn(Class),
    /// One that `[classes]` of the file lists.
    Own(String),
}

/// Text that names no class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid class name `{0}`: small letters, digits and `-`, at most {MAX_CLASS_NAME}")]
pub struct ClassNameError(String);

impl TryFrom<String> for ClassName {
    type Error = ClassNameError;

    fn try_from(text: String) -> Result<Self, ClassNameError> {
        if text == "node" {
            return Ok(Self::BuiltIn(Class::Host));
        }
        if let Some(class) = Class::ALL.iter().find(|class| class.as_str() == text) {
            return Ok(Self::BuiltIn(*class));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > MAX_CLASS_NAME || !text.bytes().all(plain) {
            return Err(ClassNameError(text.chars().take(80).collect()));
        }
        Ok(Self::Own(text))
    }
}

impl From<ClassName> for String {
    fn from(name: ClassName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BuiltIn(class) => class.as_str(),
            Self::Own(name) => name,
        })
    }
}
