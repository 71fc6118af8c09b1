//! One connection: the guest's end and the host's, and bytes between them.

mod resolver;

use smoltcp::iface::Interface;
use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};

use super::endpoint::{Endpoint, Received};
use super::guard::{Guard, Room};
use super::segment::{self, SYN, Segment};
use crate::emit::ip_header;
use crate::host::{Errno, Stream};
use crate::listing::Progress;
use crate::outbox::Outbox;
use crate::policy::Permit;
use crate::port::Port;
pub use resolver::{Judge, Resolver};

/// Bytes moved each way, and packets sent, before the next flow has its turn.
const BYTES: usize = 256 * 1024;
const PACKETS: usize = 256;

/// How long the guest may leave a SYN-ACK unanswered.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// How long it may leave the SYN of a client outside unanswered: the client
/// waits meanwhile.
const INBOUND: Duration = Duration::from_secs(5);

/// How long a guest may leave what it was sent unacknowledged, window probes
/// included, before it is taken for dead: Linux's own limit, roughly.
const UNACKNOWLEDGED: Duration = Duration::from_secs(900);

/// How long a connection lives of which the host's side has ended, while
/// nothing comes from the guest. Stops who half-closes and forgets from
/// holding sockets for good.
const HALF_CLOSED: Duration = Duration::from_secs(3_600);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Both sides have sent a FIN.
    Finished,
    /// The guest reset it.
    ByGuest,
    /// The host's side failed, and the guest got a reset.
    ByHost(Errno),
    /// The guest did not answer in time.
    Unanswered,
    /// It was given up to make room.
    Evicted,
    /// The policy changed.
    Revoked,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to do until something happens, or until then.
    Wait(Option<Instant>),
    /// There is more to do.
    Again,
    /// The port is full.
    Full,
    /// It is over.
    Over(Close),
}

/// What a flow needs of the stack for a turn.
pub struct Context<'a> {
    /// smoltcp's interface.
    pub interface: &'a mut Interface,
    /// The link.
    pub port: &'a mut dyn Port,
    /// Its sending side.
    pub outbox: &'a mut Outbox,
    /// Judges messages of DNS.
    pub judge: Judge<'a>,
    /// The time.
    pub now: Instant,
}

/// A connection with both ends open.
pub struct Connection<S> {
    /// The guest's end.
    pub endpoint: Endpoint,
    /// The host's.
    pub stream: Option<S>,
    /// The policy's permit.
    pub permit: Permit,
    /// Something may be read from the host.
    pub readable: bool,
    /// Something may be written to it.
    pub writable: bool,
    /// An end or error of the host waits behind what is to be read.
    pub closing: bool,
    /// An error of the host waits to be asked for.
    pub broken: bool,
    /// Set where the messages of DNS are observed.
    pub resolver: Option<Box<Resolver>>,
    /// The host sends no more.
    pub(super) ended: bool,
    /// The guest sends no more, and the host knows.
    pub(super) finished: bool,
    /// The host's side failed.
    pub(super) failed: Option<Errno>,
    /// Whether a client outside began.
    inbound: bool,
    opened: Instant,
    heard: Instant,
    /// Bytes from the guest.
    pub sent: u64,
    /// Bytes to the guest.
    pub received: u64,
}

impl<S: Stream> Connection<S> {
    /// Of two ends.
    pub fn new(endpoint: Endpoint, stream: S, permit: Permit, inbound: bool, now: Instant) -> Self {
        Self {
            endpoint,
            stream: Some(stream),
            permit,
            readable: false,
            writable: true,
            closing: false,
            broken: false,
            resolver: None,
            ended: false,
            finished: false,
            failed: None,
            inbound,
            opened: now,
            heard: now,
            sent: 0,
            received: 0,
        }
    }

    /// When something of the guest was heard last.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// How it is doing; it began at `since`.
    pub fn progress(&self, since: Instant) -> Progress {
        let state = match self.endpoint.state() {
            State::Listen | State::SynReceived => "syn-received",
            State::SynSent => "syn-sent",
            State::Established => "open",
            State::FinWait1 => "fin-wait-1",
            State::FinWait2 => "fin-wait-2",
            State::CloseWait => "close-wait",
            State::Closing => "closing",
            State::LastAck => "last-ack",
            State::TimeWait => "time-wait",
            State::Closed => "closed",
        };
        Progress { state, sent: self.sent, received: self.received, since, used: self.heard }
    }

    /// Whether both sides have said all that they will, while what the guest
    /// said may be on its way to a host that reads slowly. smoltcp knows such a
    /// connection no more: it would answer with a reset, and end both.
    pub fn is_ended(&self) -> bool {
        let quiet = matches!(self.endpoint.state(), State::Closed | State::TimeWait);
        quiet && self.failed.is_none() && !self.endpoint.reset
    }

    /// Looks at what the guest sent before smoltcp does; whether a FIN was
    /// held off.
    pub fn hear(&mut self, found: &Segment, ip: &mut [u8], now: Instant) -> bool {
        self.heard = now;
        let track = &mut self.endpoint.track;
        let Some(tcp) = ip.get_mut(ip_header(track.guest)..) else { return false };
        if found.has(SYN) {
            // The guest's answer to somebody outside says how it counts.
            let options = segment::clamp_options(tcp, track.own_mss);
            let (acked, next) = (track.acked, track.next);
            match self.endpoint.state() {
                State::SynSent if self.inbound => self.endpoint.agree(options),
                State::Listen | State::SynSent | State::SynReceived => {}
                // Failed, and about to tell the guest by a reset.
                State::TimeWait | State::Closed => {}
                _ => segment::be_challenged(tcp, acked, next),
            }
            return false;
        }
        if is_probe(found, track.acked)
            && let Some(stream) = &mut self.stream
        {
            stream.keep_alive();
        }
        let room = Guard::hold_open(found, track.next, tcp);
        track.closed = room == Room::Closed;
        track.again = track.cut && room == Room::Owed;
        track.cut = room == Room::Cut;
        track.guard.check(found, tcp)
    }

    /// Moves what can be moved.
    pub fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.resolver.is_some() {
            self.pump_observed(&mut cx.judge);
        } else {
            self.pump_out();
        }
        if self.endpoint.reset {
            return self.over(Close::ByGuest);
        }
        if self.resolver.is_none() {
            self.pump_in();
        }
        self.notice();
        if let Some(late) = self.late(cx.now) {
            self.endpoint.abort();
            while self.endpoint.send(cx.interface, cx.port, cx.outbox, cx.now) {}
            return self.over(late);
        }
        self.send(cx)
    }

    /// From the guest's ring into the host's socket.
    fn pump_out(&mut self) {
        let Some(stream) = self.stream.as_mut() else { return };
        let mut budget = BYTES;
        while self.writable && self.failed.is_none() && budget > 0 {
            let read = self.endpoint.read(|bytes| match stream.write(bytes) {
                Ok(written) => (written, Ok((written, bytes.len()))),
                Err(error) => (0, Err(error)),
            });
            match read {
                Received::Bytes(Ok((written, offered))) => {
                    self.sent += u64::try_from(written).unwrap_or(0);
                    budget = budget.saturating_sub(written);
                    self.writable = written == offered;
                }
                Received::Bytes(Err(Errno::AGAIN)) => self.writable = false,
                Received::Bytes(Err(Errno::INTR)) => {}
                Received::Bytes(Err(error)) => self.failed = Some(error),
                Received::End => {
                    if !std::mem::replace(&mut self.finished, true) {
                        // An error means that the other end is gone: a read
                        // reports it.
                        let _ = stream.finish();
                    }
                    return;
                }
                Received::None | Received::Gone => return,
            }
        }
    }

    /// From the host's socket into the guest's ring.
    fn pump_in(&mut self) {
        let Some(stream) = self.stream.as_mut() else { return };
        let mut budget = BYTES;
        while (self.readable || self.closing) && !self.ended && budget > 0 {
            let read = self.endpoint.write(|room| match stream.read(room) {
                Ok(read) => (read, Ok((read, room.len()))),
                Err(error) => (0, Err(error)),
            });
            match read {
                // Full, or not open yet.
                None => return,
                // The host sends no more. After a failure that is no end to
                // believe in.
                Some(Ok((0, _))) => {
                    self.ended = true;
                    if self.failed.is_none() {
                        self.endpoint.close();
                    }
                }
                Some(Ok((read, room))) => {
                    self.received += u64::try_from(read).unwrap_or(0);
                    budget = budget.saturating_sub(read);
                    // Less than there was room for: that was all there is.
                    self.readable = read == room;
                }
                Some(Err(Errno::AGAIN)) => {
                    self.readable = false;
                    // What was closing may be one direction, or an error that
                    // was reported already.
                    self.closing = false;
                }
                Some(Err(Errno::INTR)) => {}
                Some(Err(error)) => {
                    self.failed = Some(self.failed.unwrap_or(error));
                    self.ended = true;
                }
            }
        }
    }

    /// Behind the host's end there is nothing to be read that would tell of a
    /// reset.
    fn notice(&mut self) {
        if self.ended
            && self.failed.is_none()
            && std::mem::take(&mut self.broken)
            && let Some(stream) = self.stream.as_mut()
        {
            self.failed = stream.error().err();
        }
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.failed.is_some() && self.endpoint.unacknowledged() == 0 {
            self.endpoint.abort();
        }
        let mut packets = 0;
        while packets < PACKETS && self.endpoint.send(cx.interface, cx.port, cx.outbox, cx.now) {
            packets += 1;
        }
        if let Some(close) = self.is_over() {
            return self.over(close);
        }
        let next = self.endpoint.next(cx.interface, cx.now);
        if next.is_some_and(|next| next <= cx.now) {
            return if packets < PACKETS { Turn::Full } else { Turn::Again };
        }
        if self.can_go_on() {
            return Turn::Again;
        }
        Turn::Wait(earliest(next, self.deadline()))
    }

    /// Whether the turn ended for its budget alone.
    fn can_go_on(&mut self) -> bool {
        if let Some(resolver) = &self.resolver {
            return resolver.again;
        }
        let out = self.writable && self.failed.is_none() && self.endpoint.unread() > 0;
        let room = self.endpoint.write(|room| (0, room.len())).is_some_and(|room| room > 0);
        out || ((self.readable || self.closing) && !self.ended && room)
    }

    fn is_over(&mut self) -> Option<Close> {
        let state = self.endpoint.state();
        if self.endpoint.track.reset {
            return Some(self.failed.map_or(Close::Unanswered, Close::ByHost));
        }
        let quiet = matches!(state, State::Closed | State::TimeWait);
        (quiet && self.finished && self.ended).then_some(Close::Finished)
    }

    fn over(&mut self, close: Close) -> Turn {
        if let Some(stream) = self.stream.take() {
            if close == Close::Finished {
                drop(stream);
            } else {
                stream.reset();
            }
        }
        Turn::Over(close)
    }

    /// When to look for what has not come.
    fn deadline(&mut self) -> Option<Instant> {
        match self.endpoint.state() {
            State::SynSent => Some(self.opened + if self.inbound { INBOUND } else { HANDSHAKE }),
            State::SynReceived => Some(self.opened + HANDSHAKE),
            _ if self.endpoint.unacknowledged() > 0 => Some(self.heard + UNACKNOWLEDGED),
            State::FinWait1 | State::Closing | State::LastAck => Some(self.heard + UNACKNOWLEDGED),
            State::FinWait2 => Some(self.heard + HALF_CLOSED),
            _ => None,
        }
    }

    fn late(&mut self, now: Instant) -> Option<Close> {
        let late = self.deadline().is_some_and(|deadline| deadline <= now);
        late.then_some(Close::Unanswered)
    }

    /// Ends it at once with resets both ways.
    pub fn revoke(&mut self, cx: &mut Context<'_>) {
        self.endpoint.abort();
        while self.endpoint.send(cx.interface, cx.port, cx.outbox, cx.now) {}
        self.over(Close::Revoked);
    }
}

/// A keep-alive: at most one byte, of what is acknowledged already.
fn is_probe(found: &Segment, acked: u32) -> bool {
    found.length() <= 1 && found.seq == acked.wrapping_sub(1)
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
