//! Packets in parts, put together before anything looks at them.
//!
//! Parts of TCP do not come here: a guest that knows its MTU sends none. What
//! overlaps is dropped as a whole (RFC 5722), as only an attack does that.

use std::collections::HashMap;
use std::net::IpAddr;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IPV4_HEADER_LEN, IpProtocol};

use crate::emit::{ip_header, write_ip};
use crate::packet::{Fragment, Packet};

/// Packets that are waited for. Stops first parts without an end from filling
/// memory; the one that began first makes room.
const WAITING: usize = 64;

/// Bytes of all parts that wait, for the same reason.
const BYTES: usize = 1 << 20;

/// How long the rest of a packet is waited for.
const LIFE: Duration = Duration::from_secs(5);

/// Largest that IPv4 says of a whole packet, and IPv6 of what is behind its
/// header.
const LARGEST: usize = 65_535;

/// Parts of one packet. With the smallest MTU of IPv4, 68 bytes, it could have
/// more; nobody sends such, and a list of them costs to walk.
const PARTS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
}

#[derive(Debug)]
struct Partial {
    began: Instant,
    /// Offset and bytes, in the order of their offsets.
    parts: Vec<(usize, Vec<u8>)>,
    total: Option<usize>,
    bytes: usize,
    /// It overlapped: what else comes of it is dropped.
    poisoned: bool,
}

/// Packets in parts.
#[derive(Debug, Default)]
pub struct Fragments {
    waiting: HashMap<Key, Partial>,
    bytes: usize,
}

impl Fragments {
    /// Takes a part; answers the whole packet if this was the last of it.
    pub fn take(
        &mut self,
        packet: &Packet,
        part: Fragment,
        payload: &[u8],
        now: Instant,
    ) -> Option<Vec<u8>> {
        self.expire(now);
        let end = part.offset + payload.len();
        // Parts in the middle end where another can begin.
        let most = LARGEST - if packet.source.is_ipv4() { IPV4_HEADER_LEN } else { 0 };
        if payload.is_empty() || end > most || (part.more && !payload.len().is_multiple_of(8)) {
            return None;
        }
        let key = Key {
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol.into(),
            id: part.id,
        };
        if !self.waiting.contains_key(&key) {
            self.make_room(payload.len());
        }
        let partial = self.waiting.entry(key).or_insert_with(|| Partial {
            began: now,
            parts: Vec::new(),
            total: None,
            bytes: 0,
            poisoned: false,
        });
        let before = partial.bytes;
        partial.add(part, payload, end);
        self.bytes = self.bytes + partial.bytes - before;
        let whole = partial.whole()?;
        self.bytes -= partial.bytes;
        self.waiting.remove(&key);
        Some(assemble(packet.source, packet.destination, packet.protocol, &whole))
    }

    fn expire(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|_, partial| {
            let lives = now < partial.began + LIFE;
            if !lives {
                *bytes -= partial.bytes;
            }
            lives
        });
    }

    fn make_room(&mut self, needed: usize) {
        while self.waiting.len() >= WAITING || self.bytes + needed > BYTES {
            let oldest = self.waiting.iter().min_by_key(|(_, partial)| partial.began);
            let Some(key) = oldest.map(|(key, _)| *key) else { return };
            if let Some(partial) = self.waiting.remove(&key) {
                self.bytes -= partial.bytes;
            }
        }
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Partial {
    fn add(&mut self, part: Fragment, payload: &[u8], end: usize) {
        if self.poisoned {
            return;
        }
        let at = self.parts.partition_point(|(offset, _)| *offset < part.offset);
        let before = at.checked_sub(1).and_then(|at| self.parts.get(at));
        let touches_before =
            before.is_some_and(|(offset, bytes)| offset + bytes.len() > part.offset);
        let touches_after = self.parts.get(at).is_some_and(|(offset, _)| *offset < end);
        let behind = self.total.is_some_and(|total| end > total || (!part.more && end != total));
        let beyond = !part.more
            && self.parts.last().is_some_and(|(offset, bytes)| offset + bytes.len() > end);
        if touches_before || touches_after || behind || beyond || self.parts.len() >= PARTS {
            self.poisoned = true;
            self.parts.clear();
            self.bytes = 0;
            return;
        }
        if !part.more {
            self.total = Some(end);
        }
        self.bytes += payload.len();
        self.parts.insert(at, (part.offset, payload.to_vec()));
    }

    fn whole(&self) -> Option<Vec<u8>> {
        (Some(self.bytes) == self.total)
            .then(|| self.parts.iter().flat_map(|(_, bytes)| bytes).copied().collect())
    }
}

fn assemble(from: IpAddr, to: IpAddr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = ip_header(to);
    let mut packet = vec![0; header];
    write_ip(&mut packet, from, to, protocol, payload.len());
    packet.extend_from_slice(payload);
    packet
}

#[cfg(test)]
mod tests;
