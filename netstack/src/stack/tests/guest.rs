//! The guest of the scripts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpProtocol};

use crate::checksum;
use crate::emit::{ETHERNET, ip_header, write_ip, write_udp};
use crate::env::Witness;
use crate::gate::Link;
use crate::host::mock::{Fate, MockNet};
use crate::packet::Packet;
use crate::policy::{Document, Layer, Place, Policy};
use crate::port::{Capabilities, MemoryPort, Offload, Partial};
use crate::stack::{Config, RINGS, Stack};
pub use crate::tcp::segment::{ACK, FIN, RST, SYN};
use crate::tcp::segment::{HEADER, Segment};
use crate::watch::Watch;

pub const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
pub const GATEWAY: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
pub const GUEST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 40_000);
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);
pub const GUEST6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)), 40_000);
pub const SERVER6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)), 80);

/// A connection's ends, of either family.
pub const BOTH: [(SocketAddr, SocketAddr); 2] = [(GUEST, SERVER), (GUEST6, SERVER6)];

/// A driver that takes everything.
const OFFLOADS: Capabilities = Capabilities { checksum: true, segments: true };

/// A segment of the stack's, as the guest got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
    pub offload: Offload,
}

impl Got {
    pub fn end(&self) -> u32 {
        let flags = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.seq.wrapping_add(u32::try_from(self.data.len()).unwrap()).wrapping_add(flags)
    }
}

/// Guest, link, stack and host.
pub struct Sim {
    pub stack: Stack<MockNet>,
    pub port: MemoryPort,
    pub now: Instant,
    lines: Arc<Mutex<Vec<u8>>>,
}

impl Sim {
    pub fn new() -> Self {
        Self::with(&Layer::Unset, RINGS)
    }

    pub fn under(policy: &str) -> Self {
        let document: Document = toml::from_str(policy).unwrap();
        Self::with(&Layer::Read(document.into()), RINGS)
    }

    /// With the audit and the observer of DNS, for these resolvers.
    pub fn watched(policy: &str, resolvers: &[IpAddr]) -> Self {
        let document: Document = toml::from_str(policy).unwrap();
        let place = Place { resolvers: resolvers.to_vec(), ..Place::default() };
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = lines.clone();
        let out = Box::new(move |new: &[u8]| to.lock().unwrap().extend(new));
        let watch = Watch::new("pod", std::time::Duration::ZERO, out);
        let sim =
            Self::made(&Layer::Read(document.into()), RINGS, place, Box::new(watch), OFFLOADS);
        Self { lines, ..sim }
    }

    pub fn with(policy: &Layer, rings: usize) -> Self {
        Self::made(policy, rings, Place::default(), Box::new(()), OFFLOADS)
    }

    /// With a guest whose driver takes this.
    pub fn on(capabilities: Capabilities, rings: usize) -> Self {
        Self::made(&Layer::Unset, rings, Place::default(), Box::new(()), capabilities)
    }

    fn made(
        policy: &Layer,
        rings: usize,
        place: Place,
        witness: Box<dyn Witness + Send>,
        capabilities: Capabilities,
    ) -> Self {
        let v4 = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => panic!("not of IPv4"),
        };
        let IpAddr::V6(own6) = GUEST6.ip() else { panic!("not of IPv6") };
        let config = Config {
            link: Link::new(MAC, &[v4(GUEST.ip())], &[own6]),
            mac: GATEWAY,
            gateway4: Ipv4Addr::new(10, 0, 0, 1),
            gateway6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
            pod: vec![GUEST.ip(), GUEST6.ip()],
            mtu: 1500,
            capabilities,
            rings,
            seed: 7,
        };
        let now = Instant::from_secs(1_000);
        let policy = Policy::new(&Layer::Unset, policy, place, 1).into();
        let stack = Stack::new(config, MockNet::default(), policy, witness, now);
        Self { stack, port: MemoryPort::default(), now, lines: Arc::default() }
    }

    /// Puts another policy of the pod in force; how many flows it ended.
    pub fn replace(&mut self, policy: &str) -> usize {
        let document: Document = toml::from_str(policy).unwrap();
        let pod = Layer::Read(document.into());
        let policy = Policy::new(&Layer::Unset, &pod, Place::default(), 2).into();
        self.stack.replace(&mut self.port, policy, true, self.now)
    }

    /// The audit's lines so far.
    pub fn audit(&mut self) -> Vec<serde_json::Value> {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        let lines = String::from_utf8(lines).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn fate(&mut self, of: SocketAddr, fate: Fate) {
        self.stack.host().fates.insert(of, fate);
    }

    /// Turns until there is nothing to do for now.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            let next = self.stack.run(&mut self.port, self.now);
            if self.port.from_guest.is_empty() && next.is_none_or(|next| next > self.now) {
                return;
            }
        }
        panic!("the stack never comes to rest");
    }

    /// Lets time pass, stopping at each deadline.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.run();
            match self.stack.run(&mut self.port, self.now) {
                Some(next) if next <= end => self.now = next.max(self.now),
                _ => break,
            }
        }
        self.now = end;
        self.run();
    }

    /// Puts a frame with this IP packet on the link.
    pub fn packet(&mut self, ip: &[u8], offload: Offload) {
        let ethertype: [u8; 2] = if ip[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [GATEWAY.0.as_slice(), &MAC.0, &ethertype, ip].concat();
        self.port.from_guest.push_back((frame, offload));
    }

    /// Sends a segment, its checksum left to the stack.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, segment: &Tcp<'_>) {
        let ip = segment.packet(from, to);
        let start = u16::try_from(ETHERNET + ip_header(from.ip())).unwrap();
        let checksum = Some(Partial { start, offset: 16 });
        self.packet(&ip, Offload { checksum, segments: None });
        self.run();
    }

    pub fn datagram(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let mut ip = vec![0; ip_header(from.ip()) + 8];
        ip.extend(data);
        write_udp(&mut ip, from, to);
        self.packet(&ip, Offload::default());
        self.run();
    }

    /// IP packets that the guest got.
    pub fn packets(&mut self) -> Vec<(Vec<u8>, Offload)> {
        let frames = self.port.to_guest.drain(..);
        frames
            .map(|(frame, offload)| {
                assert_eq!(frame[..12], [MAC.0, GATEWAY.0].concat());
                (frame[ETHERNET..].to_vec(), offload)
            })
            .collect()
    }

    /// Segments that the guest got; anything else fails the test.
    pub fn segments(&mut self) -> Vec<Got> {
        let packets = self.packets();
        packets.into_iter().map(|(ip, offload)| segment(&ip, offload)).collect()
    }

    /// The one segment that the guest got.
    pub fn one(&mut self) -> Got {
        let mut all = self.segments();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    pub fn nothing(&mut self) {
        let all = self.packets();
        assert!(all.is_empty(), "{all:?}");
    }

    /// Opens a connection from the guest; answers its next number, and the
    /// number of the first byte that it will get.
    pub fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> (u32, u32) {
        self.connect_with(from, to, 1_000, &[2, 4, 5, 180, 1, 3, 3, 7])
    }

    pub fn connect_with(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        seq: u32,
        options: &[u8],
    ) -> (u32, u32) {
        self.send(from, to, &Tcp { seq, flags: SYN, options, ..Tcp::default() });
        let answer = self.one();
        assert_eq!(answer.flags, SYN | ACK, "{answer:?}");
        assert_eq!((answer.from, answer.to, answer.ack), (to, from, seq.wrapping_add(1)));
        let (seq, ack) = (seq.wrapping_add(1), answer.seq.wrapping_add(1));
        self.send(from, to, &Tcp { seq, ack, flags: ACK, ..Tcp::default() });
        self.nothing();
        (seq, ack)
    }
}

/// A segment of the guest's.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: &'a [u8],
    pub data: &'a [u8],
}

impl Default for Tcp<'_> {
    fn default() -> Self {
        Self { seq: 0, ack: 0, flags: ACK, window: 0xffff, options: &[], data: &[] }
    }
}

impl Tcp<'_> {
    /// As an IP packet whose checksum is not made.
    pub fn packet(&self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let header = ip_header(from.ip());
        let length = HEADER + self.options.len() + self.data.len();
        let mut ip = vec![0; header];
        write_ip(&mut ip, from.ip(), to.ip(), IpProtocol::Tcp, length);
        ip.extend(from.port().to_be_bytes());
        ip.extend(to.port().to_be_bytes());
        ip.extend(self.seq.to_be_bytes());
        ip.extend(self.ack.to_be_bytes());
        ip.push(u8::try_from((HEADER + self.options.len()) / 4).unwrap() << 4);
        ip.push(self.flags);
        ip.extend(self.window.to_be_bytes());
        ip.extend([0; 4]);
        ip.extend(self.options);
        ip.extend(self.data);
        ip
    }
}

/// Reads a segment, and checks what the stack said of its checksum.
pub fn segment(ip: &[u8], offload: Offload) -> Got {
    let packet = Packet::parse(ip).unwrap();
    assert_eq!(packet.protocol, IpProtocol::Tcp, "{ip:?}");
    let tcp = packet.payload(ip);
    let found = Segment::parse(tcp).unwrap();
    let pseudo = checksum::pseudo(packet.source, packet.destination, IpProtocol::Tcp, tcp.len());
    match offload.checksum {
        Some(partial) => {
            assert_eq!(usize::from(partial.start), ETHERNET + packet.header);
            assert_eq!(tcp[16..18], pseudo.to_be_bytes());
        }
        None => assert_eq!(checksum::sum(tcp, pseudo), 0xffff),
    }
    Got {
        from: (packet.source, found.from).into(),
        to: (packet.destination, found.to).into(),
        seq: found.seq,
        ack: found.ack,
        flags: found.flags,
        window: found.window,
        options: tcp[HEADER..found.header].to_vec(),
        data: tcp[found.header..].to_vec(),
        offload,
    }
}

/// Type and code of the one ICMP error that the guest got.
pub fn icmp(sim: &mut Sim) -> (u8, u8) {
    let all = sim.packets();
    assert_eq!(all.len(), 1, "{all:?}");
    let packet = Packet::parse(&all[0].0).unwrap();
    let message = packet.payload(&all[0].0);
    (message[0], message[1])
}
