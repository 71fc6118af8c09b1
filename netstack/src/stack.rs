//! The stack: frames in, frames out, and sockets of the host between.
//!
//! It owns no thread and no loop. The caller waits for [`Stack::fd`], for the
//! port and until the deadline, and calls [`Stack::run`].

mod outlook;

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use smoltcp::iface::Interface;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpProtocol};

use crate::capture::Capture;
use crate::counters::Counters;
use crate::echo::Echo;
use crate::emit::ETHERNET;
use crate::env::{Env, Fixed, Witness};
use crate::fragments::Fragments;
use crate::gate::{self, Admitted, Link, MAX_FRAME};
use crate::host::{Errno, HostNet, Owner, Ready};
use crate::icmp;
use crate::listeners::{Listen, ListenerRow, Plan, Reported};
use crate::listing::{FlowRow, NameRow};
use crate::neighbour;
use crate::outbox::Outbox;
use crate::packet::Packet;
use crate::policy::{Policy, Protocol};
use crate::port::{Capabilities, Offload, Port, Received, SegmentKind};
pub use crate::tcp::Arrival;
use crate::tcp::{Nothing, Tcp, segment};
use crate::udp::Udp;

/// Frames of the guest taken in a turn, so that one that sends and sends does
/// not keep the host's side waiting.
const FRAMES: usize = 64;

/// Usual memory for rings.
pub const RINGS: usize = 64 << 20;

/// The pod and the link.
#[derive(Clone, Debug)]
pub struct Config {
    /// The guest's end of the link.
    pub link: Link,
    /// Our end's MAC address.
    pub mac: EthernetAddress,
    /// Our addresses in the guest's eyes: the gateways.
    pub gateway4: std::net::Ipv4Addr,
    /// The same for IPv6.
    pub gateway6: std::net::Ipv6Addr,
    /// Addresses that the pod has in its namespace, where listeners are bound.
    pub pod: Vec<IpAddr>,
    /// Bytes of the largest packet of the link.
    pub mtu: u16,
    /// What the guest's driver takes.
    pub capabilities: Capabilities,
    /// Bytes that rings of connections may have.
    pub rings: usize,
    /// Seed of initial sequence numbers and ports, which must be unpredictable.
    pub seed: u64,
}

/// What a stack holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// TCP's connections, with those being dialled.
    pub connections: usize,
    /// Those being dialled.
    pub dialing: usize,
    /// Bytes in rings of connections, as given and not as touched.
    pub rings: usize,
    /// UDP's ports.
    pub ports: usize,
    /// Pings.
    pub pings: usize,
    /// Bytes of packets in parts.
    pub fragments: usize,
}

/// The stack.
pub struct Stack<H: HostNet> {
    fixed: Fixed,
    pod: Vec<IpAddr>,
    plan: Plan,
    host: H,
    interface: Interface,
    outbox: Outbox,
    policy: Arc<Policy>,
    witness: Box<dyn Witness + Send>,
    flow: u64,
    counters: Counters,
    tcp: Tcp<H>,
    udp: Udp<H>,
    echo: Echo<H>,
    fragments: Fragments,
    frame: Vec<u8>,
    scratch: Vec<u8>,
    events: Vec<Ready>,
}

/// What is needed of the stack for a turn, beside the protocols.
macro_rules! env {
    ($stack:ident, $port:expr, $now:expr) => {
        Env {
            host: &mut $stack.host,
            interface: &mut $stack.interface,
            port: $port,
            outbox: &mut $stack.outbox,
            policy: &$stack.policy,
            witness: $stack.witness.as_mut(),
            flow: &mut $stack.flow,
            counters: &mut $stack.counters,
            fixed: &$stack.fixed,
            scratch: &mut $stack.scratch,
            now: $now,
        }
    };
}

impl<H: HostNet> Stack<H> {
    /// A stack with this policy; `witness` gets its verdicts.
    pub fn new(
        config: Config,
        host: H,
        policy: Arc<Policy>,
        witness: Box<dyn Witness + Send>,
        now: Instant,
    ) -> Self {
        let mut nothing = Nothing(config.capabilities);
        let mut shape = smoltcp::iface::Config::new(HardwareAddress::Ip);
        shape.random_seed = config.seed;
        let mut interface = Interface::new(shape, &mut nothing, now);
        interface.set_any_ip(true);
        let outbox = Outbox::new(config.mac, config.link.mac());
        let fixed = Fixed {
            link: config.link,
            gateway4: config.gateway4.into(),
            gateway6: config.gateway6.into(),
            mtu: config.mtu,
            capabilities: config.capabilities,
        };
        Self {
            fixed,
            pod: config.pod,
            plan: Plan::default(),
            host,
            interface,
            outbox,
            policy,
            witness,
            flow: 0,
            counters: Counters::default(),
            tcp: Tcp::new(config.rings),
            udp: Udp::default(),
            echo: Echo::default(),
            fragments: Fragments::default(),
            frame: vec![0; MAX_FRAME],
            scratch: vec![0; crate::udp::ROOM],
            events: Vec::new(),
        }
    }

    /// Readable when the host's side has something for [`run`](Self::run).
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.host.fd()
    }

    /// [`fd`](Self::fd) was not readable: the next [`run`](Self::run) does not poll
    /// the host.
    pub fn quiet(&mut self) {
        self.host.quiet();
    }

    /// Gives the host's side back, for the stack that comes after this one, and
    /// the number of the flow that was opened last. What is open ends without
    /// a word; [`end`](Self::end) comes before.
    pub fn into_host(self) -> (H, u64) {
        (self.host, self.flow)
    }

    /// Numbers flows from this one on, so that no number comes twice in an
    /// audit that another stack has begun.
    pub fn number_from(&mut self, flow: u64) {
        self.flow = flow;
    }

    /// The host's side.
    pub fn host(&mut self) -> &mut H {
        &mut self.host
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Everything that was counted, by name: the stack's own, the audit's and
    /// the observer's of DNS. What the port drops it counts itself.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let mut all = self.counters.list();
        all.push(("replies.dropped".to_owned(), self.outbox.dropped));
        let witness = self.witness.counts().into_iter();
        all.extend(witness.map(|(name, count)| (name.to_owned(), count)));
        all.sort();
        all
    }

    /// Every open flow, the oldest first.
    pub fn flows(&self) -> Vec<FlowRow> {
        let mut rows: Vec<FlowRow> =
            self.tcp.rows().chain(self.udp.rows()).chain(self.echo.rows()).collect();
        rows.sort_by_key(|row| row.id);
        rows
    }

    /// The names that pinned DNS servers gave addresses, in their order.
    pub fn names(&self, now: Instant) -> Vec<NameRow> {
        let mut rows = self.witness.learnt(now);
        rows.sort_by(|a, b| (a.address, &a.known.asked).cmp(&(b.address, &b.known.asked)));
        rows
    }

    /// Starts to capture the frames of the link, or stops.
    pub fn capture(&mut self, capture: Option<Arc<dyn Capture>>) {
        self.outbox.tap.run(capture);
    }

    /// Writes the audit's sums that are due. To be called about once a second.
    pub fn tick(&mut self, now: Instant) {
        self.witness.tick(now);
    }

    /// Flows that have ended.
    pub fn ended(&self) -> u64 {
        let open = self.tcp.len() + self.udp.len() + self.echo.len();
        self.counters.opened.saturating_sub(open.try_into().unwrap_or(u64::MAX))
    }

    /// What the stack holds now.
    pub fn load(&self) -> Load {
        Load {
            connections: self.tcp.len(),
            dialing: self.tcp.dialing(),
            rings: self.tcp.rings(),
            ports: self.udp.len(),
            pings: self.echo.len(),
            fragments: self.fragments.bytes(),
        }
    }

    /// Fails if the tables do not fit each other.
    #[cfg(test)]
    pub(crate) fn assert_consistent(&self) {
        self.tcp.assert_consistent();
    }

    /// Does one bounded turn. Returns the time of the next turn: `now` if there is
    /// more to do.
    pub fn run(&mut self, port: &mut dyn Port, now: Instant) -> Option<Instant> {
        self.outbox.tap.turn(now);
        let more = self.take_frames(port, now);
        let again = self.take_events(port, now);
        let mut env = env!(self, port, now);
        let again = self.tcp.run(&mut env) | self.udp.run(&mut env) | again;
        self.echo.run(&mut env);
        port.end_batch();
        if more || again { Some(now) } else { self.next() }
    }

    fn next(&self) -> Option<Instant> {
        [self.tcp.next(), self.udp.next(), self.echo.next()].into_iter().flatten().min()
    }

    /// Takes frames of the guest; whether there may be more.
    fn take_frames(&mut self, port: &mut dyn Port, now: Instant) -> bool {
        for _ in 0..FRAMES {
            // What it is owed comes before what it wants.
            if !self.outbox.flush(port) {
                return false;
            }
            let mut frame = std::mem::take(&mut self.frame);
            let received = port.receive(&mut frame);
            if let Some(received) = received {
                self.outbox.tap.take(frame.get(..received.length).unwrap_or_default());
                self.take(port, &mut frame, received, now);
                if let Some(reason) = self.counters.refusal() {
                    self.outbox.tap.say(|| format!("refused: {reason}"));
                }
                self.outbox.tap.done();
            }
            self.frame = frame;
            if received.is_none() {
                return false;
            }
        }
        true
    }

    fn take(&mut self, port: &mut dyn Port, buffer: &mut [u8], received: Received, now: Instant) {
        let Some(frame) = buffer.get_mut(..received.length) else { return };
        match gate::admit(&self.fixed.link, frame) {
            Ok(Admitted::Arp) => self.take_arp(port, frame),
            Ok(Admitted::Ipv4 | Admitted::Ipv6) => self.take_ip(port, frame, received, now),
            Err(refusal) => self.counters.refuse(refusal.name()),
        }
    }

    fn take_arp(&mut self, port: &mut dyn Port, frame: &[u8]) {
        let payload = frame.get(ETHERNET..).unwrap_or_default();
        let gateway = self.outbox.gateway();
        if let Some(reply) = neighbour::arp_reply(&self.fixed.link, gateway, payload) {
            self.outbox.arp(port, &reply);
        }
    }

    fn take_ip(&mut self, port: &mut dyn Port, frame: &mut [u8], received: Received, now: Instant) {
        let Some(ip) = frame.get_mut(ETHERNET..) else { return };
        let packet = match Packet::parse(ip) {
            Ok(packet) => packet,
            Err(_) => return self.counters.refuse("malformed packet"),
        };
        self.counters.frames += 1;
        let Some(part) = packet.fragment else {
            return self.take_packet(port, &packet, ip, Some(received), now);
        };
        if packet.protocol == IpProtocol::Tcp {
            return self.counters.refuse("fragment of TCP");
        }
        if let Some(mut whole) = self.fragments.take(&packet, part, packet.payload(ip), now)
            && let Ok(mut packet) = Packet::parse(&whole)
        {
            // It came in parts: so it may go on.
            packet.whole = false;
            self.take_packet(port, &packet, &mut whole, None, now);
        }
    }

    /// A whole packet; `received` if it came as one.
    fn take_packet(
        &mut self,
        port: &mut dyn Port,
        packet: &Packet,
        ip: &mut [u8],
        received: Option<Received>,
        now: Instant,
    ) {
        // The gate has seen no discovery in what came in parts (RFC 6980).
        if received.is_some()
            && let (IpProtocol::Icmpv6, IpAddr::V6(from)) = (packet.protocol, packet.source)
            && let Some(reply) = neighbour::advertisement(
                &self.fixed.link,
                self.outbox.gateway(),
                from,
                packet.payload(ip),
            )
        {
            return self.outbox.whole(port, &reply);
        }
        let offload = received.map(|received| received.offload).unwrap_or_default();
        let mut env = env!(self, port, now);
        match packet.protocol {
            IpProtocol::Tcp if is_honest(packet, ip, offload) => {
                self.tcp.take(&mut env, packet, ip);
            }
            IpProtocol::Tcp => env.counters.refuse("TCP checksum or segmentation"),
            IpProtocol::Udp if offload.segments.is_none() => {
                self.udp.take(&mut env, packet, ip, offload.checksum.is_none());
            }
            IpProtocol::Icmp | IpProtocol::Icmpv6 => self.echo.take(&mut env, packet, ip),
            _ => {
                env.counters.refuse("protocol");
                let from = env.fixed.gateway(packet.source);
                if packet.is_to_one() {
                    let whole = ip.get(..packet.length).unwrap_or(ip);
                    env.error(icmp::Error::Protocol, whole, packet.source, from);
                }
            }
        }
    }

    fn take_events(&mut self, port: &mut dyn Port, now: Instant) -> bool {
        let mut events = std::mem::take(&mut self.events);
        self.host.poll(&mut events);
        let mut env = env!(self, port, now);
        let mut more = self.tcp.accept_rest(&mut env);
        for ready in events.drain(..) {
            match ready.token.owner() {
                Some(Owner::Tcp) => self.tcp.ready(&mut env, ready),
                Some(Owner::Listener) => self.tcp.accept(&mut env, ready.token.slot()),
                Some(Owner::Udp) => self.udp.ready(&mut env, ready),
                Some(Owner::Echo) => more |= self.echo.ready(&mut env, ready),
                None => {}
            }
        }
        self.events = events;
        more
    }

    /// Listens in the namespace for exactly what the guest listens on, by a
    /// whole report.
    pub fn report(&mut self, port: &mut dyn Port, listeners: &[Reported], now: Instant) {
        let mut plan = Plan::new(listeners, &self.pod, &self.fixed);
        let mut env = env!(self, port, now);
        plan.failed = self.tcp.listeners().listen(&mut env, &plan.of(Protocol::Tcp));
        plan.failed.extend(self.udp.serve(&mut env, &plan.of(Protocol::Udp)));
        env.counters.listeners_failed += u64::try_from(plan.failed.len()).unwrap_or(0);
        self.plan = plan;
    }

    /// What the last report asked for and could not be bound, and why.
    pub fn failed_listeners(&self) -> &[(Listen, Errno)] {
        &self.plan.failed
    }

    /// What the guest listens on, where that is bound, and what is not, and why.
    pub fn listeners(&self) -> Vec<ListenerRow> {
        self.plan.rows(&self.pod, &self.fixed)
    }

    /// The next connection to the guest's loopback. The caller reports its progress
    /// with [`carry`](Self::carry) and [`depart`](Self::depart).
    pub fn arrival(&mut self) -> Option<Arrival<H::Stream>> {
        self.tcp.loopback().arrival()
    }

    /// A connection to the guest's loopback has carried so much so far, from
    /// the guest and to it. False when it may not go on, and is to be reset.
    pub fn carry(&mut self, flow: u64, sent: u64, received: u64, now: Instant) -> bool {
        self.tcp.loopback().carry(flow, sent, received, now)
    }

    /// A connection to the guest's loopback is over, for this reason.
    pub fn depart(&mut self, port: &mut dyn Port, flow: u64, reason: &'static str, now: Instant) {
        let mut env = env!(self, port, now);
        self.tcp.loopback().depart(&mut env, flow, reason);
    }

    /// Ends everything that is open, both ways, and every listener.
    pub fn end(&mut self, port: &mut dyn Port, now: Instant) {
        let mut env = env!(self, port, now);
        self.tcp.end(&mut env);
        self.udp.end(&mut env);
        self.echo.end(&mut env);
        self.plan = Plan::default();
        port.end_batch();
    }

    /// Puts `policy` in force for new flows. With `recheck`, ends the open flows
    /// that it denies and returns their number.
    pub fn replace(
        &mut self,
        port: &mut dyn Port,
        policy: Arc<Policy>,
        recheck: bool,
        now: Instant,
    ) -> usize {
        self.policy = policy;
        if !recheck {
            return 0;
        }
        let mut env = env!(self, port, now);
        self.tcp.recheck(&mut env) + self.udp.recheck(&mut env) + self.echo.recheck(&mut env)
    }
}

/// Whether a segment's checksum is right or left to us, and what is said of
/// its segmentation fits it.
fn is_honest(packet: &Packet, ip: &[u8], offload: Offload) -> bool {
    let kind = if packet.source.is_ipv4() { SegmentKind::Tcp4 } else { SegmentKind::Tcp6 };
    if offload.segments.is_some_and(|segments| segments.kind != kind) {
        return false;
    }
    offload.checksum.is_some()
        || segment::verify(packet.source, packet.destination, packet.payload(ip))
}

#[cfg(test)]
mod tests;
