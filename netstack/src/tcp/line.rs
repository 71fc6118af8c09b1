//! The link as smoltcp sees it: one packet of the guest in, packets out.

use std::net::IpAddr;
use std::num::NonZeroUsize;

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::IpProtocol;

use super::guard::Guard;
use super::segment::{self, CHECKSUM, FIN, HEADER, RST, SYN, Segment};
use crate::checksum;
use crate::emit::{ETHERNET, ip_header};
use crate::outbox::Outbox;
use crate::port::{Capabilities, Offload, Partial, Port, SegmentKind, Segments};

/// Largest packet, and what smoltcp thinks the MTU is: real segments are cut
/// by their MSS, and smoltcp would drop what IPv6 has to segment.
const PACKET: usize = 65_535;

/// Room for a packet that is asked for before one is made: a segment of the
/// usual MTU. To ask for more would starve a guest with few buffers.
const SHORT: usize = 1500;

/// What smoltcp needs to know of the link.
pub fn capabilities(of: Capabilities) -> DeviceCapabilities {
    let mut found = DeviceCapabilities::default();
    found.medium = Medium::Ip;
    found.max_transmission_unit = PACKET;
    found.checksum.ipv4 = Checksum::Tx;
    // Made by the guest, or by us in one place; see `Track::finish`.
    found.checksum.tcp = Checksum::None;
    if of.segments {
        found.segmentation.tcpv4 = NonZeroUsize::new(PACKET);
        found.segmentation.tcpv6 = NonZeroUsize::new(PACKET);
    }
    found
}

/// What is known of a connection from the headers that went by.
#[derive(Clone, Debug)]
pub struct Track {
    /// The guest's address.
    pub guest: IpAddr,
    /// The other end's, as the guest knows it.
    pub remote: IpAddr,
    /// Largest payload of a segment that the guest takes.
    pub mss: u16,
    /// Our MSS, advertised to the guest.
    pub own_mss: u16,
    /// What the guest can do.
    pub capabilities: Capabilities,
    /// The window towards the guest.
    pub guard: Guard,
    /// Next sequence number to the guest.
    pub next: u32,
    /// The segment last passed to smoltcp closed the guest's window.
    pub closed: bool,
    /// The guest has closed its window, although something is on its way.
    pub cut: bool,
    /// It has opened it again: what was on its way is to be sent again.
    pub again: bool,
    /// The acknowledgement number last sent to the guest.
    pub acked: u32,
    /// A reset was sent.
    pub reset: bool,
}

impl Track {
    /// Finishes a packet that smoltcp has written: what it leaves open, and
    /// what it would do differently if it knew the link.
    fn finish(&mut self, ip: &mut [u8]) -> Offload {
        let at = ip_header(self.guest);
        let Some(tcp) = ip.get_mut(at..) else { return Offload::default() };
        let Some(found) = Segment::parse(tcp) else { return Offload::default() };
        let syn = found.has(SYN);
        // Into a closed window smoltcp sends a probe, which it does not count.
        let probe = self.closed && found.payload > 0 && !found.has(FIN);
        if !probe {
            self.next = found.seq.wrapping_add(found.length());
        }
        self.acked = found.ack;
        self.reset |= found.has(RST);
        if syn {
            segment::clamp_options(tcp, self.own_mss);
        }
        self.guard.note(&found, tcp);
        self.offload(at, &found, tcp)
    }

    fn offload(&self, at: usize, found: &Segment, tcp: &mut [u8]) -> Offload {
        let pseudo = checksum::pseudo(self.remote, self.guest, IpProtocol::Tcp, tcp.len());
        let start = u16::try_from(ETHERNET + at).unwrap_or(0);
        if !self.capabilities.checksum {
            put_checksum(tcp, 0);
            let sum = !checksum::sum(tcp, pseudo);
            put_checksum(tcp, sum);
            return Offload::default();
        }
        put_checksum(tcp, pseudo);
        let partial = Partial { start, offset: 16 };
        let options = u16::try_from(found.header.saturating_sub(HEADER)).unwrap_or(0);
        let size = self.mss.saturating_sub(options).max(1);
        let long = found.payload > usize::from(size);
        let kind = if self.guest.is_ipv4() { SegmentKind::Tcp4 } else { SegmentKind::Tcp6 };
        let headers = u16::try_from(ETHERNET + at + found.header).unwrap_or(0);
        Offload {
            checksum: Some(partial),
            segments: long.then_some(Segments { kind, size, headers }),
        }
    }
}

fn put_checksum(tcp: &mut [u8], sum: u16) {
    if let Some(field) = tcp.get_mut(CHECKSUM..CHECKSUM + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// The link for one connection, for the length of a call.
pub struct Line<'a> {
    /// Carries frames.
    pub port: &'a mut dyn Port,
    /// Writes them.
    pub outbox: &'a mut Outbox,
    /// Looks at them.
    pub track: &'a mut Track,
    /// The packet to be taken.
    pub packet: Option<&'a [u8]>,
}

impl Device for Line<'_> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.packet.take()?;
        let outgoing = Outgoing { port: self.port, outbox: self.outbox, track: self.track };
        Some((Incoming(packet), outgoing))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        // Asked for without knowing how long it will be. One that is longer
        // than there is room for waits in the outbox, and the others with it.
        self.outbox.room(self.port, SHORT).then_some(Outgoing {
            port: self.port,
            outbox: self.outbox,
            track: self.track,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.track.capabilities)
    }
}

/// A packet of the guest.
pub struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// A packet to the guest.
pub struct Outgoing<'a> {
    port: &'a mut dyn Port,
    outbox: &'a mut Outbox,
    track: &'a mut Track,
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let Self { port, outbox, track } = self;
        outbox.packet(port, length, |ip| {
            let result = f(ip);
            (result, track.finish(ip))
        })
    }
}

/// A link that carries nothing, to make the interface with.
pub struct Nothing(pub Capabilities);

impl Device for Nothing {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.0)
    }
}
