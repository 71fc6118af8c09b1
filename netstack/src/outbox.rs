//! What goes to the guest: Ethernet headers, and replies for which there was
//! no room.

mod parts;

use std::collections::VecDeque;

use smoltcp::wire::EthernetAddress;

use crate::capture::CaptureTap;
use crate::emit::ETHERNET;
use crate::gate::MAX_FRAME;
use crate::port::{Offload, Port};

/// Replies that may wait for room. While one waits no frame is taken from the
/// guest, so this is reached only by a frame that makes more than one; it
/// stops a guest that sends and never receives from filling our memory.
const MAX_WAITING: usize = 256;

/// Smallest room asked for before something is taken from the guest.
const REPLY: usize = 1_514;

/// The sending side of the link.
#[derive(Debug)]
pub struct Outbox {
    guest: EthernetAddress,
    gateway: EthernetAddress,
    frame: Vec<u8>,
    /// What the parts of the last packet that was cut have in common.
    id: u32,
    waiting: VecDeque<(Vec<u8>, Offload)>,
    /// Sees everything that is sent.
    pub(crate) tap: CaptureTap,
    /// Replies dropped because [`MAX_WAITING`] were waiting.
    pub dropped: u64,
}

impl Outbox {
    /// Sends from `gateway` to `guest`.
    pub fn new(gateway: EthernetAddress, guest: EthernetAddress) -> Self {
        Self {
            guest,
            gateway,
            frame: vec![0; MAX_FRAME],
            id: 0,
            waiting: VecDeque::new(),
            tap: CaptureTap::default(),
            dropped: 0,
        }
    }

    /// Our own end's MAC address.
    pub fn gateway(&self) -> EthernetAddress {
        self.gateway
    }

    /// Whether the guest has taken everything that waited.
    pub fn flush(&mut self, port: &mut dyn Port) -> bool {
        while let Some((frame, offload)) = self.waiting.front() {
            if !port.transmit(frame, *offload) {
                return false;
            }
            self.waiting.pop_front();
        }
        port.room(REPLY)
    }

    /// Whether a packet of this many bytes would go out now.
    pub fn room(&self, port: &mut dyn Port, packet: usize) -> bool {
        self.waiting.is_empty() && port.room(ETHERNET + packet)
    }

    /// Sends an IP packet that `write` fills in, and returns its result.
    /// Without room, the packet waits.
    pub fn packet<R>(
        &mut self,
        port: &mut dyn Port,
        length: usize,
        write: impl FnOnce(&mut [u8]) -> (R, Offload),
    ) -> R {
        let (guest, gateway) = (self.guest, self.gateway);
        if self.frame.len() < ETHERNET + length {
            self.frame.resize(ETHERNET + length, 0);
        }
        let (header, rest) = self.frame.split_at_mut(ETHERNET);
        let (ip, _) = rest.split_at_mut(length);
        let (result, offload) = write(ip);
        let ethertype: u16 = if ip.first().is_some_and(|b| b >> 4 == 6) { 0x86dd } else { 0x0800 };
        ethernet(header, guest, gateway, ethertype);
        let (frame, _) = self.frame.split_at(ETHERNET + length);
        self.tap.send(frame);
        if !self.waiting.is_empty() || !port.transmit(frame, offload) {
            Self::wait(&mut self.waiting, &mut self.dropped, frame, offload);
        }
        result
    }

    /// Sends an IP packet as it is.
    pub fn whole(&mut self, port: &mut dyn Port, packet: &[u8]) {
        self.packet(port, packet.len(), |ip| {
            ip.copy_from_slice(packet);
            ((), Offload::default())
        });
    }

    /// Sends a packet of any size, in parts if it is larger than the link's MTU.
    /// False if there is no room for all of it.
    pub fn large(&mut self, port: &mut dyn Port, packet: &[u8], mtu: u16) -> bool {
        if packet.len() <= usize::from(mtu) {
            let room = self.room(port, packet.len());
            if room {
                self.whole(port, packet);
            }
            return room;
        }
        self.id = self.id.wrapping_add(1);
        for part in parts::cut(packet, mtu, self.id) {
            if !self.room(port, part.len()) {
                return false;
            }
            self.whole(port, &part);
        }
        true
    }

    /// Sends an ARP packet.
    pub fn arp(&mut self, port: &mut dyn Port, packet: &[u8]) {
        let mut frame = vec![0; ETHERNET];
        ethernet(&mut frame, self.guest, self.gateway, 0x0806);
        frame.extend_from_slice(packet);
        self.tap.send(&frame);
        if !self.waiting.is_empty() || !port.transmit(&frame, Offload::default()) {
            Self::wait(&mut self.waiting, &mut self.dropped, &frame, Offload::default());
        }
    }

    fn wait(
        waiting: &mut VecDeque<(Vec<u8>, Offload)>,
        dropped: &mut u64,
        frame: &[u8],
        offload: Offload,
    ) {
        if waiting.len() < MAX_WAITING {
            waiting.push_back((frame.to_vec(), offload));
        } else {
            *dropped += 1;
        }
    }
}

fn ethernet(header: &mut [u8], to: EthernetAddress, from: EthernetAddress, ethertype: u16) {
    let bytes = to.0.into_iter().chain(from.0).chain(ethertype.to_be_bytes());
    for (place, byte) in header.iter_mut().zip(bytes) {
        *place = byte;
    }
}
