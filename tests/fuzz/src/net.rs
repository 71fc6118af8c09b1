//! Anything that a guest, its agent and the world may do to the stack, in any
//! order: frames of any bytes and frames that almost fit, listener reports,
//! connections from outside, what sockets of the host do, other policies, and
//! time. Nothing panics, what is refused opens no socket, everything is
//! bounded, and in the end nothing is left. What goes over the link is captured
//! and the capture stays well-formed.
#![no_main]

mod input;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex};

use input::Input;
use libfuzzer_sys::fuzz_target;
use sandbox_netstack::capture::Capture;
use sandbox_netstack::gate::Link;
use sandbox_netstack::host::mock::{Fate, MockNet};
use sandbox_netstack::host::{Errno, Notice, Origin};
use sandbox_netstack::listeners::Reported;
use sandbox_netstack::pcap::{Way, Writer};
use sandbox_netstack::policy::{Document, Layer, Place, Policy, Protocol};
use sandbox_netstack::port::{
    Capabilities, MemoryPort, Offload, Partial, SegmentKind, Segments, parse_vnet,
};
use sandbox_netstack::stack::{Config, Stack};
use sandbox_netstack::watch::Watch;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpProtocol, IpRepr, Ipv4Repr, Ipv6Repr};

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const GATEWAY: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const OWN4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Bytes for rings: little, so that it runs out.
const RINGS: usize = 4 << 20;

static POLICIES: LazyLock<[Layer; 2]> = LazyLock::new(|| {
    let open = "version = 1\ndefaults = { egress = \"allow\", ingress = \"allow\" }\n";
    let named = "version = 1\n[[rule]]\nid = \"name\"\ndir = \"egress\"\naction = \"allow\"\n\
        name = [\"*.example.com\"]\n[[rule]]\nid = \"net\"\ndir = \"egress\"\naction = \"allow\"\n\
        cidr = [\"192.0.2.0/28\"]\nlog = true\n";
    [open, named].map(|text| Layer::Read(Document::load(text).unwrap().document.into()))
});

/// Writes to memory, as whoever captures does.
struct Kept(Arc<Mutex<Writer<Vec<u8>>>>);

impl Capture for Kept {
    fn frame(&self, now: Instant, way: Way, frame: &[u8], comment: &str) {
        let wall = std::time::Duration::from_micros(now.total_micros() as u64);
        self.0.lock().unwrap().frame(wall, way, frame, comment).unwrap();
    }
}

struct Run<'a> {
    stack: Stack<MockNet>,
    port: MemoryPort,
    now: Instant,
    input: Input<'a>,
    /// What the stack acknowledged and sent last, so that segments fit.
    seen: (u32, u32),
}

impl Run<'_> {
    fn byte(&mut self) -> u8 {
        self.input.byte().unwrap_or(0)
    }

    fn server(&mut self) -> SocketAddr {
        let pick = self.byte();
        let ip = match pick & 7 {
            0 | 1 => [192, 0, 2, pick >> 3].into(),
            2 => RESOLVER.into(),
            3 => [169, 254, 169, 254].into(),
            4 => OWN4.into(),
            5 => OWN6.into(),
            6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(pick >> 3)]),
            _ => IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1]),
        };
        let port = [53, 80, 443, u16::from(self.byte())][usize::from(pick >> 6)];
        SocketAddr::new(ip, port)
    }

    /// One frame that gets past the gate, mostly.
    fn packet(&mut self) {
        let remote = self.server();
        let (v4, kind) = (remote.is_ipv4(), self.byte());
        let (protocol, header) = match kind & 3 {
            0 | 1 => (IpProtocol::Tcp, self.tcp(remote.port())),
            2 => (IpProtocol::Udp, self.udp(remote.port())),
            _ => (if v4 { IpProtocol::Icmp } else { IpProtocol::Icmpv6 }, self.icmp(v4)),
        };
        let length = usize::from(self.byte()) << (kind >> 6);
        let mut body = header;
        body.extend(self.input.bytes(length));
        if protocol == IpProtocol::Udp && body.len() >= 8 {
            let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
            body[4..6].copy_from_slice(&length.to_be_bytes());
        }
        let repr = match remote.ip() {
            IpAddr::V4(dst_addr) => IpRepr::Ipv4(Ipv4Repr {
                src_addr: OWN4,
                dst_addr,
                next_header: protocol,
                payload_len: body.len(),
                hop_limit: 64,
            }),
            IpAddr::V6(dst_addr) => IpRepr::Ipv6(Ipv6Repr {
                src_addr: OWN6,
                dst_addr,
                next_header: protocol,
                payload_len: body.len(),
                hop_limit: 64,
            }),
        };
        let mut ip = vec![0; repr.header_len()];
        repr.emit(&mut ip[..], &ChecksumCapabilities::default());
        if kind & 4 != 0 {
            // Something in the header is otherwise, and its sum right again.
            let at = usize::from(self.byte()) % ip.len();
            ip[at] ^= self.byte();
            if v4 {
                seal(&mut ip, &body);
            }
        }
        let start = u16::try_from(14 + ip.len()).unwrap();
        let ethertype: [u8; 2] = if v4 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&GATEWAY.0[..], &MAC.0, &ethertype, &ip, &body].concat();
        let offset = if protocol == IpProtocol::Tcp { 16 } else { 6 };
        let checksum = (kind & 8 == 0).then_some(Partial { start, offset });
        let segments = (kind & 16 != 0).then_some(Segments {
            kind: if kind & 32 == 0 { SegmentKind::Tcp4 } else { SegmentKind::Tcp6 },
            size: 1 + u16::from(kind),
            headers: 0,
        });
        self.port.from_guest.push_back((frame, Offload { checksum, segments }));
    }

    fn tcp(&mut self, to: u16) -> Vec<u8> {
        let (from, flags, near) = (self.byte() & 3, self.byte(), self.input.half());
        let seq = self.seen.0.wrapping_add_signed(i32::from(near.cast_signed()) >> 4);
        let ack = self.seen.1.wrapping_add(u32::from(near & 15)).wrapping_sub(4);
        let options = usize::from(near & 3) * 4;
        let mut tcp = vec![0x9c, from];
        tcp.extend(to.to_be_bytes());
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([u8::try_from(20 + options).unwrap() << 2, flags]);
        tcp.extend(self.input.half().to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(self.input.bytes(options));
        tcp.resize(20 + options, 1);
        tcp
    }

    fn udp(&mut self, to: u16) -> Vec<u8> {
        let mut udp = vec![0x9c, self.byte() & 3];
        udp.extend(to.to_be_bytes());
        udp.extend([0; 4]);
        udp
    }

    fn icmp(&mut self, v4: bool) -> Vec<u8> {
        let kind = self.byte();
        let kind = if kind & 1 == 0 { if v4 { 8 } else { 128 } } else { kind };
        vec![kind, 0, 0, 0, 0, self.byte() & 3, 0, 1]
    }

    /// Bytes as they come, behind an offload header as they come.
    fn raw(&mut self) {
        let length = usize::from(self.input.half()) % 2_000;
        let header = self.input.bytes(12).to_vec();
        let frame = self.input.bytes(length).to_vec();
        if let Ok(offload) = parse_vnet(&header, &frame) {
            self.port.from_guest.push_back((frame, offload));
        }
    }

    fn report(&mut self) {
        let count = self.byte();
        let listeners: Vec<Reported> = (0..count)
            .map(|_| {
                let kind = self.byte();
                let at = match kind & 3 {
                    0 => SocketAddr::from(([0; 4], self.input.half())),
                    1 => SocketAddr::from(([0u16; 8], self.input.half())),
                    2 => SocketAddr::from(([127, 0, 0, 1], self.input.half())),
                    _ => self.server(),
                };
                let protocol = Protocol::ALL[usize::from(kind >> 2) % Protocol::ALL.len()];
                Reported { protocol, at }
            })
            .collect();
        self.stack.report(&mut self.port, &listeners, self.now);
        let (bound, serving) = (self.stack.host().listening(), self.stack.host().serving());
        assert!(bound.len() + serving.len() <= 256);
        let own = |ip: IpAddr| ip == OWN4 || ip == OWN6;
        assert!(bound.iter().all(|at| own(at.ip()) || at.ip().is_loopback()), "{bound:?}");
        assert!(serving.iter().all(|at| own(at.ip())), "{serving:?}");
        assert!(self.stack.listeners().len() >= listeners.len());
    }

    fn dial(&mut self) {
        let (pick, peer) = (usize::from(self.byte()), self.server());
        let at = self.stack.host().listening().get(pick).copied();
        if let Some(at) = at {
            self.stack.host().dial(at, peer);
        }
    }

    /// Something happens at a socket of the host.
    fn host(&mut self) {
        let (pick, what) = (usize::from(self.byte()), self.byte());
        let bytes = self.input.bytes(usize::from(what)).to_vec();
        let error = [Errno::CONNRESET, Errno::TIMEDOUT, Errno::PIPE, Errno::HOSTUNREACH]
            [usize::from(what >> 4 & 3)];
        let from = self.server();
        let host = self.stack.host();
        match what & 7 {
            0 => host.touch(pick, |pipe| pipe.incoming.extend(&bytes)),
            1 => host.touch(pick, |pipe| pipe.ended = true),
            2 => host.touch(pick, |pipe| pipe.failed = Some(error)),
            3 => host.touch(pick, |pipe| pipe.room = usize::from(what >> 3) * 100),
            4 => host.touch(pick, |pipe| pipe.connecting = Err(error)),
            5 => host.deliver(pick, |socket| socket.incoming.push_back((from, bytes))),
            6 => host.deliver(pick, |socket| {
                let origin = Origin::Icmp(3, what >> 4);
                let notice = Notice { to: from, from: None, origin, errno: error, mtu: 1_300 };
                socket.notices.push_back(notice);
            }),
            _ => host.echo(pick, |echo| echo.incoming.push_back((from.ip(), 1, bytes))),
        }
    }

    fn fate(&mut self) {
        let (to, what) = (self.server(), self.byte());
        let fate = match what & 3 {
            0 => Fate::Connected,
            1 => Fate::Silent,
            2 => Fate::Failed(Errno::CONNREFUSED),
            _ => Fate::Impossible(Errno::ACCESS),
        };
        self.stack.host().exhausted = (what & 0xf0 == 0xf0).then_some(Errno::MFILE);
        self.stack.host().fates.insert(to, fate);
    }

    fn policy(&mut self) {
        let (pick, place) = (self.byte(), place());
        let pod = &POLICIES[usize::from(pick & 1)];
        let recheck = pick & 2 != 0;
        let policy = Policy::new(&Layer::Unset, pod, place, 2).into();
        self.stack.replace(&mut self.port, policy, recheck, self.now);
    }

    fn time(&mut self) {
        let pick = self.byte();
        self.now += Duration::from_millis(1 << (pick % 22));
        self.stack.tick(self.now);
    }

    /// The connections to the guest's loopback, carried on or not.
    fn loopback(&mut self) {
        let keep = self.byte() & 1 == 0;
        while let Some(arrival) = self.stack.arrival() {
            self.stack.carry(arrival.flow, 1, 1, self.now);
            if !keep {
                self.stack.depart(&mut self.port, arrival.flow, "finished", self.now);
            }
        }
    }

    /// Turns until there is nothing to do, and looks at what came.
    fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 100_000, "the stack never comes to rest");
            let next = self.stack.run(&mut self.port, self.now);
            if self.port.from_guest.is_empty() && next.is_none_or(|next| next > self.now) {
                break;
            }
            if self.port.to_guest.len() >= self.port.capacity {
                break;
            }
        }
        for (frame, _) in self.port.to_guest.drain(..) {
            assert!(frame[..12] == [MAC.0, GATEWAY.0].concat(), "to somebody else");
            let at = if frame[12] == 8 { 34 } else { 54 };
            if frame.get(if at == 34 { 23 } else { 20 }) == Some(&6) && frame.len() >= at + 20 {
                let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
                self.seen = (word(at + 8), word(at + 4).wrapping_add(1));
            }
        }
        let load = self.stack.load();
        assert!(load.connections <= 4_096 + 512 && load.dialing <= 512 && load.rings <= RINGS);
        assert!(load.ports <= 1_024 && load.pings <= 64 && load.fragments <= 1 << 20);
        assert!(self.stack.flows().len() >= load.connections + load.pings);
    }
}

/// Makes the sum of an IPv4 header right, however long it says that it is.
fn seal(ip: &mut [u8], body: &[u8]) {
    ip[10..12].fill(0);
    let header = [&*ip, body].concat();
    let length = (usize::from(header[0] & 15) * 4).min(header.len());
    let words = header[..length].chunks(2);
    let mut sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    ip[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
}

fn place() -> Place {
    Place { resolvers: vec![RESOLVER.into()], ..Place::default() }
}

fuzz_target!(|bytes: &[u8]| {
    let now = Instant::from_secs(1_000);
    let config = Config {
        link: Link::new(MAC, &[OWN4], &[OWN6]),
        mac: GATEWAY,
        gateway4: Ipv4Addr::new(10, 0, 0, 1),
        gateway6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        pod: vec![OWN4.into(), OWN6.into()],
        mtu: 1_500,
        capabilities: Capabilities { checksum: true, segments: true },
        rings: RINGS,
        seed: 7,
    };
    let mut input = Input(bytes);
    let first = input.byte().unwrap_or(0);
    let pod = &POLICIES[usize::from(first & 1)];
    let policy = Policy::new(&Layer::Unset, pod, place(), 1).into();
    let watch = Watch::new(
        "pod",
        std::time::Duration::ZERO,
        Box::new(|lines: &[u8]| {
            let text = std::str::from_utf8(lines).unwrap();
            assert!(
                text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            );
        }),
    );
    let stack = Stack::new(config, MockNet::default(), policy, Box::new(watch), now);
    let mut run = Run { stack, port: MemoryPort::default(), now, input, seen: (1_000, 0) };
    let kept = Arc::new(Mutex::new(Writer::new(Vec::new(), "eth0").unwrap()));
    if first & 2 != 0 {
        kept.lock().unwrap().keep(usize::from(first));
        run.stack.capture(Some(Arc::new(Kept(kept.clone()))));
    }
    while let Some(what) = run.input.byte() {
        match what % 16 {
            0..=6 => run.packet(),
            7 => run.raw(),
            8 => run.report(),
            9 => run.dial(),
            10 | 11 => run.host(),
            12 => run.fate(),
            13 => run.policy(),
            14 => run.time(),
            _ => run.loopback(),
        }
        run.port.capacity = if what & 0xc0 == 0xc0 { usize::from(what & 15) } else { usize::MAX };
        run.settle();
    }
    run.port.capacity = usize::MAX;
    run.settle();
    run.stack.end(&mut run.port, run.now);
    let load = run.stack.load();
    assert_eq!(
        (load.connections, load.dialing, load.rings, load.ports, load.pings),
        (0, 0, 0, 0, 0)
    );
    assert!(run.stack.flows().is_empty() && run.stack.host().listening().is_empty());
    assert!(run.stack.host().serving().is_empty());
    assert!(run.stack.host().pipes.iter().all(|pipe| pipe.borrow().closed));
    whole(kept.lock().unwrap().get_mut());
});

/// Every block of a capture has its length at both ends, and they lead to the
/// capture's own.
fn whole(mut capture: &[u8]) {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    while !capture.is_empty() {
        let length = word(&capture[4..]);
        assert!(length % 4 == 0 && word(&capture[length - 4..]) == length);
        capture = &capture[length..];
    }
}
