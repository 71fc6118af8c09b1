//! A segment of the guest's in its packet.

use super::Key;
use super::segment::Segment;
use crate::env::Env;
use crate::host::HostNet;
use crate::packet::Packet;

/// A segment that was taken.
pub struct Taken<'a> {
    /// Which connection it is of.
    pub key: Key,
    /// Its header.
    pub found: Segment,
    packet: &'a Packet,
    ip: &'a mut [u8],
}

impl<'a> Taken<'a> {
    /// Reads the segment of a packet; `None` when it is cut short.
    pub fn read(packet: &'a Packet, ip: &'a mut [u8]) -> Option<Self> {
        let found = Segment::parse(packet.payload(ip))?;
        let key = Key {
            guest: (packet.source, found.from).into(),
            remote: (packet.destination, found.to).into(),
        };
        Some(Self { key, found, packet, ip })
    }

    /// The packet with nothing between the IP header and TCP.
    pub fn plain(self) -> &'a mut [u8] {
        plain(self.packet, self.ip, self.packet.length)
    }

    /// The same of a SYN, without what it may carry.
    pub fn opening(self) -> Vec<u8> {
        plain(self.packet, self.ip, self.found.header).to_vec()
    }

    /// Answers it with a reset, if it is for one receiver (RFC 9293, MUST-57).
    pub fn reset<H: HostNet>(&self, env: &mut Env<'_, H>) {
        if !self.packet.is_to_one() {
            return;
        }
        let Key { guest, remote } = self.key;
        if let Some(reset) = self.found.reset(guest.ip(), remote.ip()) {
            env.outbox.whole(env.port, &reset);
        }
    }
}

/// The packet with nothing between the IP header and TCP, and no more of it
/// than `keep` bytes from TCP's header on.
fn plain<'a>(packet: &Packet, ip: &'a mut [u8], keep: usize) -> &'a mut [u8] {
    let fixed = crate::emit::ip_header(packet.source);
    let end = packet.length.min(packet.header.saturating_add(keep));
    let gap = packet.header.saturating_sub(fixed);
    if gap > 0 {
        ip.copy_within(..fixed, gap);
    }
    let Some(ip) = ip.get_mut(gap..end) else { return &mut [] };
    let length = u16::try_from(ip.len()).unwrap_or(u16::MAX);
    if fixed == 20 {
        if let Some(first) = ip.first_mut() {
            *first = 0x45;
        }
        if let Some(field) = ip.get_mut(2..4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    } else {
        let payload = length.saturating_sub(40).to_be_bytes();
        if let Some([high, low, next]) = ip.get_mut(4..7) {
            [*high, *low] = payload;
            *next = 6;
        }
    }
    ip
}
