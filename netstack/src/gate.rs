//! The gate: whether a frame is one that the guest may send at all.
//!
//! Policy is bound to the link, and never to an address that the guest claims.
//! So a frame whose source is not the link's own is nobody's, and goes no
//! further; nor does one whose headers are cut short or say what later stages
//! would have to guess about. What is admitted is not yet allowed: where it
//! goes is for the policy.

mod arp;
mod ipv4;
mod ipv6;

use std::net::IpAddr;

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, Ipv4Address, Ipv6Address};

/// Longest frame: an IP packet of the largest size behind an Ethernet header.
/// Segmentation offload makes them that long; a longer one is no packet.
pub const MAX_FRAME: usize = 14 + 65_535;

/// Tags of VLANs: 802.1Q, 802.1ad, and what was used before it.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// What the guest's end of the link is: given by the pod's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    mac: EthernetAddress,
    ipv4: Vec<Ipv4Address>,
    ipv6: Vec<Ipv6Address>,
}

impl Link {
    /// A link with these addresses, and the link-local one that the guest
    /// makes of its MAC address (RFC 4291, appendix A).
    pub fn new(mac: EthernetAddress, ipv4: &[Ipv4Address], ipv6: &[Ipv6Address]) -> Self {
        let mut ipv6 = ipv6.to_vec();
        ipv6.push(link_local(mac));
        Self { mac, ipv4: ipv4.to_vec(), ipv6 }
    }

    /// The guest's MAC address.
    pub fn mac(&self) -> EthernetAddress {
        self.mac
    }

    /// Whether this is an address of the guest.
    pub fn has(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.ipv4.contains(&ip),
            IpAddr::V6(ip) => self.ipv6.contains(&ip),
        }
    }

    /// The guest's first address of the other end's family.
    pub fn address_for(&self, peer: IpAddr) -> Option<IpAddr> {
        match peer {
            IpAddr::V4(_) => self.ipv4.first().copied().map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.first().copied().map(IpAddr::V6),
        }
    }
}

/// `fe80::` and the interface's identifier in the form of EUI-64.
pub fn link_local(mac: EthernetAddress) -> Ipv6Address {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Address::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

/// What the frame carries, to be parsed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// An ARP request or reply for Ethernet and IPv4.
    Arp,
    /// An IPv4 packet from an address of the link.
    Ipv4,
    /// An IPv6 packet from an address of the link, or the probe for one.
    Ipv6,
}

/// Why a frame goes no further.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are fewer bytes than the header announces or needs.
    #[error("the {0} header or what it announces is cut short")]
    Truncated(&'static str),
    /// More bytes than [`MAX_FRAME`].
    #[error("the frame has {0} bytes, at most {MAX_FRAME} are taken")]
    TooLong(usize),
    #[error("the frame comes from {0}, which is not the link's address")]
    SourceMac(EthernetAddress),
    /// A VLAN tag: the link is in no VLAN.
    #[error("the frame has a VLAN tag ({0:#06x})")]
    Tagged(u16),
    #[error("EtherType {0:#06x} is neither ARP nor IP")]
    EtherType(u16),
    /// A version in the header that the EtherType does not announce.
    #[error("the {0} header has another version")]
    Version(&'static str),
    /// An IPv4 header of fewer than five words.
    #[error("the IPv4 header has {0} bytes, at least 20 are its fixed part")]
    HeaderLength(u8),
    /// The sum over the IPv4 header is wrong.
    #[error("the checksum of the IPv4 header is wrong")]
    Checksum,
    /// An IPv4 address that is not the link's.
    #[error("the packet comes from {0}, which is not an address of the link")]
    SourceIpv4(Ipv4Address),
    /// An IPv6 address that is not the link's.
    #[error("the packet comes from {0}, which is not an address of the link")]
    SourceIpv6(Ipv6Address),
    /// ARP for something else than Ethernet and IPv4, or of another kind than
    /// request and reply.
    #[error("an ARP packet that is not a request or reply for Ethernet and IPv4")]
    ArpKind,
    /// An ARP packet that speaks for another.
    #[error("an ARP packet that speaks for {0} at {1}")]
    ArpSender(Ipv4Address, EthernetAddress),
    /// Neighbour discovery that speaks for another address.
    #[error("neighbour discovery that speaks for {0}")]
    Neighbour(Ipv6Address),
    /// Neighbour discovery that a receiver has to discard (RFC 4861, 6.1 and
    /// 7.1).
    #[error("neighbour discovery with {0}")]
    Discovery(&'static str),
    #[error("ICMPv6 type {0} is for routers to send")]
    RouterMessage(u8),
    /// Neighbour discovery behind extension headers or as a fragment
    /// (RFC 6980): nothing legitimate needs it, and it hides from a filter.
    #[error("neighbour discovery behind an extension header")]
    HiddenDiscovery,
    /// More extension headers than anything legitimate has, or a jumbogram.
    #[error("an IPv6 packet with {0}")]
    Extension(&'static str),
}

impl Refusal {
    /// What frames refused for this reason are counted under.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Truncated(_) => "truncated",
            Self::TooLong(_) => "too long",
            Self::SourceMac(_) => "source MAC",
            Self::Tagged(_) => "VLAN",
            Self::EtherType(_) => "EtherType",
            Self::Version(_) => "version",
            Self::HeaderLength(_) => "header length",
            Self::Checksum => "IPv4 checksum",
            Self::SourceIpv4(_) | Self::SourceIpv6(_) => "source address",
            Self::ArpKind => "ARP kind",
            Self::ArpSender(..) => "ARP sender",
            Self::Neighbour(_) => "neighbour",
            Self::Discovery(_) => "neighbour discovery",
            Self::RouterMessage(_) => "router message",
            Self::HiddenDiscovery => "hidden discovery",
            Self::Extension(_) => "extension",
        }
    }
}

/// Decides on a frame, without the checksum and segmentation header that a
/// virtio device has before it.
pub fn admit(link: &Link, frame: &[u8]) -> Result<Admitted, Refusal> {
    if frame.len() > MAX_FRAME {
        return Err(Refusal::TooLong(frame.len()));
    }
    let frame = EthernetFrame::new_checked(frame).map_err(|_| Refusal::Truncated("Ethernet"))?;
    if frame.src_addr() != link.mac {
        return Err(Refusal::SourceMac(frame.src_addr()));
    }
    match frame.ethertype() {
        EthernetProtocol::Arp => arp::check(link, frame.payload()).map(|()| Admitted::Arp),
        EthernetProtocol::Ipv4 => ipv4::check(link, frame.payload()).map(|()| Admitted::Ipv4),
        EthernetProtocol::Ipv6 => ipv6::check(link, frame.payload()).map(|()| Admitted::Ipv6),
        EthernetProtocol::Unknown(tag) if TAGS.contains(&tag) => Err(Refusal::Tagged(tag)),
        EthernetProtocol::Unknown(other) => Err(Refusal::EtherType(other)),
    }
}

#[cfg(test)]
mod tests;
