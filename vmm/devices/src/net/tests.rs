#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod frames;
mod guest;
mod hostile;
mod segments;

use std::collections::HashMap;
use std::net::IpAddr;
use std::thread;

use sandbox_netstack::host::mock::MockNet;
use sandbox_vm_spec::network::{Network, PolicySource, Reply, Request};

use super::*;
use crate::mock::{Driver as Rigged, Part};
use guest::{GUEST, GUEST_MAC, MTU};

const RX: usize = 0;
const TX: usize = 1;
/// What Linux takes.
const ALL: [u32; 6] = [
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_HOST_TSO4,
];
/// Bytes of Linux's smallest receive buffers.
const BUFFER: u32 = 1536;

/// Nobody comes to the guest's loopback in these tests.
struct Nobody;

impl Forwards for Nobody {
    fn take(&mut self, _forward: Forward) {}
    fn look(&mut self) {}
}

/// A device, its driver, and who tells it of its network.
struct World {
    net: Net<MockNet>,
    handle: Handle,
    driver: Rigged,
    /// Receive buffers by their heads.
    buffers: HashMap<u16, u64>,
}

fn network() -> Network {
    Network {
        guest: vec![GUEST],
        bound: vec![GUEST],
        outside: false,
        mtu: MTU,
        gateway4: guest::GATEWAY,
        gateway6: "fe80::1".parse().unwrap(),
        resolvers: vec![],
        host: vec![],
        cluster: vec![],
        node: PolicySource::Unset,
        pod: PolicySource::Unset,
    }
}

impl World {
    /// A device without driver and network.
    fn bare() -> Self {
        let link = LinkSpec { mac: GUEST_MAC, mtu: MTU };
        let config = NetConfig {
            link,
            host: MockNet::default(),
            settle: Box::new(|_| Ok(())),
            witnesses: Box::new(|_| Box::new(())),
            forwards: Box::new(Nobody),
            forward: |arrival, meter| Forward {
                stream: std::fs::File::open("/dev/null").unwrap().into(),
                target: arrival.local,
                meter,
            },
        };
        let (net, handle) = Net::new(config).unwrap();
        Self { net, handle, driver: Rigged::with_sizes(&QUEUE_SIZES), buffers: HashMap::new() }
    }

    /// One whose driver takes these features.
    fn with(features: &[u32]) -> Self {
        let mut world = Self::bare();
        world.net.begin(features.iter().fold(0, |acked, bit| acked | 1 << bit)).unwrap();
        assert_eq!(world.ask(Request::Configure(Box::new(network()))), Reply::Done);
        world
    }

    fn up() -> Self {
        Self::with(&ALL)
    }

    /// Asks from another thread, as everybody does, while the device turns.
    fn ask(&mut self, request: Request) -> Reply {
        let handle = self.handle.clone();
        let asking = thread::spawn(move || handle.ask(request));
        while !asking.is_finished() {
            self.turn();
        }
        asking.join().unwrap()
    }

    /// A turn, as the adapter has it.
    fn try_turn(&mut self) -> Result<Signals, DeviceError> {
        self.net.woken(WAKE);
        if self.net.driver.is_some() {
            self.net.turn(&mut self.driver.io())
        } else {
            self.net.turn(&mut [])
        }
    }

    fn turn(&mut self) -> Signals {
        self.try_turn().unwrap()
    }

    /// The host's network.
    fn host(&mut self) -> &mut MockNet {
        self.net.host().expect("there is a stack")
    }

    /// Gives the device a frame behind a header, in one descriptor each.
    fn send(&mut self, header: [u8; 12], frame: &[u8]) {
        let parts = [self.part(&header), self.part(frame)];
        self.driver.chain(TX, &parts);
    }

    fn part(&mut self, bytes: &[u8]) -> Part {
        Part { addr: self.driver.bytes(bytes), len: bytes.len() as u32, write: false }
    }

    /// Gives the device receive buffers of this size.
    fn offer(&mut self, count: usize, len: u32) {
        for _ in 0..count {
            let addr = self.driver.buffer(len);
            let head = self.driver.chain(RX, &[Part { addr, len, write: true }]);
            self.buffers.insert(head, addr);
        }
    }

    /// What was written into receive buffers: each frame with its header.
    fn received(&mut self) -> Vec<([u8; 12], Vec<u8>)> {
        let mut returned = self.driver.returned(RX).into_iter();
        let mut frames = Vec::new();
        while let Some((head, written)) = returned.next() {
            let mut bytes = self.driver.read(self.buffers[&head], written as usize);
            let header: [u8; 12] = bytes.drain(..12).collect::<Vec<_>>().try_into().unwrap();
            for _ in 1..u16::from_le_bytes([header[10], header[11]]) {
                let (head, written) = returned.next().expect("all buffers of a frame at once");
                bytes.extend(self.driver.read(self.buffers[&head], written as usize));
            }
            frames.push((header, bytes));
        }
        frames
    }

    fn count(&mut self, name: &str) -> u64 {
        let Reply::Counters { counters } = self.ask(Request::Counters) else { panic!() };
        counters.iter().find(|(counter, _)| counter == name).map_or(0, |(_, count)| *count)
    }

    /// Whether the device will be woken without a kick.
    fn is_awake(&self) -> bool {
        self.net.wake.read().is_ok()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
