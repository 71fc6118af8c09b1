//! A guest with a TCP of its own, smoltcp's, on a link that loses, repeats and
//! reorders frames both ways; by a clock that nobody waits for.

use std::collections::VecDeque;

use smoltcp::iface::{Config as Shape, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::*;
use crate::emit::ETHERNET;
use crate::port::{Capabilities, Offload, Partial};

/// Numbers from a seed, for scripts that are the same each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One direction of a link.
struct Way {
    dice: Dice,
    /// Of a thousand frames, how many are lost, as many repeated, and as many
    /// overtaken by the next.
    bad: u64,
    late: Option<(Vec<u8>, Offload)>,
    out: VecDeque<(Vec<u8>, Offload)>,
}

impl Way {
    fn new(seed: u64, bad: u64) -> Self {
        Self { dice: Dice(seed | 1), bad, late: None, out: VecDeque::new() }
    }

    fn carry(&mut self, frame: (Vec<u8>, Offload)) {
        if self.dice.roll(1_000) < self.bad {
            return;
        }
        if self.dice.roll(1_000) < self.bad {
            self.out.push_back(frame.clone());
        }
        if self.late.is_none() && self.dice.roll(1_000) < self.bad {
            self.late = Some(frame);
            return;
        }
        self.out.push_back(frame);
        self.out.extend(self.late.take());
    }
}

/// The guest's end as smoltcp sees it.
struct Wire {
    mtu: usize,
    taken: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Taken(Vec<u8>);

impl RxToken for Taken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Taken;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Taken, Sent<'_>)> {
        Some((Taken(self.taken.pop_front()?), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut own = DeviceCapabilities::default();
        own.medium = Medium::Ip;
        own.max_transmission_unit = self.mtu;
        own.checksum.tcp = Checksum::None;
        own
    }
}

/// How a link and the ends of a connection on it are.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub seed: u64,
    /// See [`Way::bad`].
    pub bad: u64,
    pub v4: bool,
    /// Whether the guest takes frames of 64 KiB.
    pub segments: bool,
    /// Bytes of the guest's rings.
    pub ring: usize,
    /// Bytes that the stack has for rings.
    pub rings: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        let rings = crate::stack::RINGS;
        Self { seed: 1, bad: 0, v4: true, segments: true, ring: 256 << 10, rings }
    }
}

/// Guest, bad link, stack and host.
pub struct Carrier {
    pub sim: Sim,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
    up: Way,
    down: Way,
    v4: bool,
}

impl Carrier {
    /// With a connection that the guest begins to the server.
    pub fn connect(conditions: Conditions) -> Self {
        let Conditions { seed, bad, v4, segments, ring, rings } = conditions;
        let capabilities = Capabilities { checksum: true, segments };
        let sim = Sim::on(capabilities, rings);
        let (guest, server) = if v4 { BOTH[0] } else { BOTH[1] };
        let mut wire = Wire { mtu: 1_500, taken: VecDeque::new(), sent: Vec::new() };
        let mut shape = Shape::new(HardwareAddress::Ip);
        shape.random_seed = seed;
        let mut interface = Interface::new(shape, &mut wire, sim.now);
        interface.update_ip_addrs(|own| {
            own.push(IpCidr::new(guest.ip().into(), if v4 { 24 } else { 64 })).unwrap();
        });
        let routes = interface.routes_mut();
        routes.add_default_ipv4_route(std::net::Ipv4Addr::new(10, 0, 0, 1)).unwrap();
        routes.add_default_ipv6_route("fe80::1".parse().unwrap()).unwrap();
        let buffer = || SocketBuffer::new(vec![0; ring]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_congestion_control(CongestionControl::None);
        socket.set_nagle_enabled(false);
        socket.connect(interface.context(), server, guest.port()).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let (up, down) = (Way::new(seed * 3, bad), Way::new(seed * 7 + 1, bad));
        let mut carrier = Self { sim, interface, sockets, handle, wire, up, down, v4 };
        while carrier.socket().state() == State::SynSent {
            carrier.step();
        }
        carrier
    }

    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Lets everybody do what there is to do, and time pass if that is nothing.
    pub fn step(&mut self) {
        let now = self.sim.now;
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
        for packet in std::mem::take(&mut self.wire.sent) {
            let (ethertype, start) = if self.v4 { ([8, 0], 34) } else { ([0x86, 0xdd], 54) };
            let tcp = packet.get(if self.v4 { 9 } else { 6 }) == Some(&6);
            let frame = [GATEWAY.0.as_slice(), &MAC.0, &ethertype, &packet].concat();
            let checksum = tcp.then_some(Partial { start, offset: 16 });
            self.up.carry((frame, Offload { checksum, segments: None }));
        }
        let busy = !self.up.out.is_empty();
        self.sim.port.from_guest.append(&mut self.up.out);
        let next = self.sim.stack.run(&mut self.sim.port, now);
        for frame in std::mem::take(&mut self.sim.port.to_guest) {
            self.down.carry(frame);
        }
        let busy = busy || !self.down.out.is_empty() || !self.sim.port.from_guest.is_empty();
        self.wire
            .taken
            .extend(self.down.out.drain(..).map(|(frame, _)| frame[ETHERNET..].to_vec()));
        if busy || next.is_some_and(|next| next <= now) {
            return;
        }
        // What is late comes when nothing overtakes it.
        if let Some((frame, _)) = self.down.late.take() {
            self.wire.taken.push_back(frame[ETHERNET..].to_vec());
        }
        self.sim.port.from_guest.extend(self.up.late.take());
        let own = self.interface.poll_at(now, &self.sockets);
        let soon = now + Duration::from_millis(1);
        let next = [next, own].into_iter().flatten().min().unwrap_or(soon);
        self.sim.now = next.max(soon);
    }
}
