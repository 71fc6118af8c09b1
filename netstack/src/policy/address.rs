use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not a valid destination. No policy can change that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invalid {
    /// `0.0.0.0/8` and `::`: Linux connects to itself for these.
    Unspecified,
    /// `127.0.0.0/8` and `::1`: the guest's own loopback is inside the guest.
    Loopback,
    /// `224.0.0.0/4` and `ff00::/8`.
    Multicast,
    /// `240.0.0.0/4` and the broadcast address.
    Reserved,
    /// `::ffff:0:0/96` in a packet (RFC 4291, section 2.5.5.2, is for the
    /// inside of a machine): it would dodge rules for IPv4.
    Mapped,
}

impl Invalid {
    /// What it is called in the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Mapped => "mapped",
        }
    }

    /// Whether an address in its canonical form is one.
    pub(super) fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) if v4.octets().first() == Some(&0) => Some(Self::Unspecified),
            IpAddr::V6(v6) if v6.is_unspecified() => Some(Self::Unspecified),
            _ if address.is_loopback() => Some(Self::Loopback),
            _ if address.is_multicast() => Some(Self::Multicast),
            IpAddr::V4(v4) if v4.octets().first() >= Some(&240) => Some(Self::Reserved),
            _ => None,
        }
    }
}

/// An address and every other that it leads to: IPv6 transition mechanisms
/// carry an IPv4 address inside, and what is denied to that is denied to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forms {
    canonical: IpAddr,
    embedded: [Option<Ipv4Addr>; 2],
    is_mapped: bool,
}

impl Forms {
    /// Takes an address apart. An IPv4-mapped one becomes IPv4.
    pub fn of(address: IpAddr) -> Self {
        let IpAddr::V6(v6) = address else {
            return Self { canonical: address, embedded: [None; 2], is_mapped: false };
        };
        if let Some(v4) = v6.to_ipv4_mapped() {
            return Self { canonical: v4.into(), embedded: [None; 2], is_mapped: true };
        }
        Self { canonical: address, embedded: embedded(v6), is_mapped: false }
    }

    /// The form in which it is compared first.
    pub fn canonical(&self) -> IpAddr {
        self.canonical
    }

    /// Whether it came as IPv4 mapped into IPv6.
    pub fn is_mapped(&self) -> bool {
        self.is_mapped
    }

    /// Every form, the canonical one first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        let embedded = self.embedded.into_iter().flatten().map(IpAddr::V4);
        std::iter::once(self.canonical).chain(embedded)
    }
}

fn embedded(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let bits = v6.to_bits();
    // The 32 bits that end `right` bits from the right.
    let part = |right: u32| Some(Ipv4Addr::from_bits(((bits >> right) & 0xffff_ffff) as u32));
    match v6.segments() {
        // Deprecated IPv4-compatible (RFC 4291, section 2.5.5.1), but for `::`
        // and `::1`.
        [0, 0, 0, 0, 0, 0, ..] if bits > 1 => [part(0), None],
        // NAT64 (RFC 6052), and its local range with /96 (RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => [part(0), None],
        // 6to4 (RFC 3056).
        [0x2002, ..] => [part(80), None],
        // Teredo (RFC 4380, section 4): the server, and the client inverted.
        [0x2001, 0, ..] => [part(64), part(0).map(|v4| Ipv4Addr::from_bits(!v4.to_bits()))],
        _ => [None; 2],
    }
}
