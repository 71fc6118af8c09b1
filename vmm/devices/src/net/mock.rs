//! A device with its driver and a host network, for tests and fuzz targets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

pub mod guest;

use std::collections::HashMap;
use std::thread;

use sandbox_netstack::gate::Link;
use sandbox_netstack::host::mock::MockNet;
use sandbox_netstack::policy::{Layer, Place, Policy};
use sandbox_netstack::stack::{Config, RINGS};
use sandbox_vm_spec::network::GATEWAY_MAC;
use smoltcp::wire::EthernetAddress;

use super::*;
use crate::mock::{Driver as Rigged, Part};
use guest::{GUEST, GUEST_MAC, GUEST4, MTU};

pub const RX: usize = 0;
pub const TX: usize = 1;
/// The features that Linux acknowledges.
pub const ALL: [u32; 6] = [
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_HOST_TSO4,
];
pub const QUEUE_SIZES: [u16; 2] = [sandbox_vm_spec::devices::MAX_QUEUE_SIZE; 2];
/// Bytes of Linux's smallest receive buffers.
pub const BUFFER: u32 = 1536;
pub const LINK: LinkSpec = LinkSpec { mac: GUEST_MAC, mtu: MTU };

/// A device without a network. Nothing takes connections to the guest's
/// loopback.
pub fn device() -> (Net<MockNet>, Handle) {
    let (forwards, _) = mailbox(1).unwrap();
    let config = NetConfig {
        link: LINK,
        host: MockNet::default(),
        settle: Box::new(|_| Ok(())),
        witnesses: Box::new(|_| Box::new(())),
        trim: || (),
        forwards,
        forward: |arrival, meter| Forward {
            stream: std::fs::File::open("/dev/null").unwrap().into(),
            target: arrival.local,
            meter,
        },
    };
    Net::new(config).unwrap()
}

/// A network without a policy.
pub fn network() -> Network {
    let config = Config {
        link: Link::new(EthernetAddress(GUEST_MAC), &[GUEST4], &[]),
        mac: EthernetAddress(GATEWAY_MAC),
        gateway4: guest::GATEWAY,
        gateway6: "fe80::1".parse().unwrap(),
        pod: vec![GUEST],
        mtu: MTU,
        capabilities: Capabilities::default(),
        rings: RINGS,
        seed: 0,
    };
    let policy = Policy::new(&Layer::Unset, &Layer::Unset, Place::default(), 1);
    Network { config, outside: false, policy: policy.into() }
}

/// A device, its driver, and its control plane's end.
pub struct World {
    pub net: Net<MockNet>,
    pub handle: Handle,
    pub driver: Rigged,
    /// Receive buffers by their heads.
    buffers: HashMap<u16, u64>,
}

impl World {
    /// A device without driver and network.
    pub fn bare() -> Self {
        let (net, handle) = device();
        Self { net, handle, driver: Rigged::with_sizes(&QUEUE_SIZES), buffers: HashMap::new() }
    }

    /// A device whose driver has acknowledged `features`.
    pub fn with(features: &[u32]) -> Self {
        let mut world = Self::bare();
        world.net.begin(features.iter().fold(0, |acked, bit| acked | 1 << bit)).unwrap();
        world.ask(Command::Configure(network().into()));
        world
    }

    pub fn up() -> Self {
        Self::with(&ALL)
    }

    /// Runs `work` in another thread while the device turns.
    pub fn during<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let working = scope.spawn(work);
            while !working.is_finished() {
                self.turn();
            }
            working.join().unwrap()
        })
    }

    pub fn ask(&mut self, command: Command) -> Answer {
        let handle = self.handle.clone();
        self.during(move || handle.ask(command)).unwrap()
    }

    /// A turn, as the adapter has it.
    pub fn try_turn(&mut self) -> Result<Signals, DeviceError> {
        self.net.woken(WAKE);
        if self.net.driver.is_some() {
            self.net.turn(&mut self.driver.io())
        } else {
            self.net.turn(&mut [])
        }
    }

    pub fn turn(&mut self) -> Signals {
        self.try_turn().unwrap()
    }

    /// The host's network.
    pub fn host(&mut self) -> &mut MockNet {
        self.net.host().expect("there is a stack")
    }

    /// Gives the device a frame behind a header, in one descriptor each.
    pub fn send(&mut self, header: [u8; 12], frame: &[u8]) {
        let parts = [self.part(&header), self.part(frame)];
        self.driver.chain(TX, &parts);
    }

    pub fn part(&mut self, bytes: &[u8]) -> Part {
        Part { addr: self.driver.bytes(bytes), len: bytes.len() as u32, write: false }
    }

    /// Gives the device receive buffers of this size.
    pub fn offer(&mut self, count: usize, len: u32) {
        for _ in 0..count {
            let addr = self.driver.buffer(len);
            let head = self.driver.chain(RX, &[Part { addr, len, write: true }]);
            self.buffers.insert(head, addr);
        }
    }

    /// What was written into receive buffers: each frame with its header.
    pub fn received(&mut self) -> Vec<([u8; 12], Vec<u8>)> {
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

    pub fn count(&mut self, name: &str) -> u64 {
        let Answer::Counters(counters) = self.ask(Command::Counters) else { panic!() };
        counters.iter().find(|(counter, _)| counter == name).map_or(0, |(_, count)| *count)
    }

    /// Whether the device's inbox is readable; clears it.
    pub fn is_awake(&self) -> bool {
        rustix::io::read(self.net.inbox.waker(), &mut [0; 8]).is_ok()
    }

    /// Begins a connection of the guest.
    pub fn dial(&mut self) {
        self.offer(8, BUFFER);
        self.send(guest::PARTIAL, &guest::tcp(smoltcp::wire::TcpControl::Syn, 1000, None, &[]));
        self.turn();
        self.turn();
    }
}
