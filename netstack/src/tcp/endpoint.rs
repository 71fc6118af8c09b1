//! The guest's end of a connection: smoltcp's socket in a set of its own, with
//! the [guard](super::guard) before it.

use std::net::SocketAddr;

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::IpEndpoint;

use super::guard::Guard;
use super::line::{Line, Track};
use super::segment::{Options, RST, Segment};
use super::{DEFAULT_MSS, LEAST_MSS};
use crate::outbox::Outbox;
use crate::port::Port;

/// A socket alone in its set, so that no call looks at another flow's.
pub struct Sockets {
    set: SocketSet<'static>,
    handle: SocketHandle,
    /// Bytes of each of its two rings.
    pub ring: usize,
}

impl Sockets {
    /// With two rings of this size, whose memory is untouched until used.
    pub fn new(ring: usize) -> Self {
        let buffer = || SocketBuffer::new(vec![0; ring]);
        let mut socket = Socket::new(buffer(), buffer());
        // The link loses nothing, so no window but the guest's own is needed;
        // one acknowledgement goes out per turn; and what the host's TCP has
        // sent together is not to wait again.
        socket.set_congestion_control(CongestionControl::None);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self { set, handle, ring }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

/// What reading the guest's bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// There were some.
    Bytes(T),
    /// There are none now.
    None,
    /// There will be none: the guest has sent its FIN.
    End,
    /// There will be none: the connection is gone.
    Gone,
}

/// The guest's end.
pub struct Endpoint {
    sockets: Sockets,
    /// What went by.
    pub track: Track,
    /// The guest has reset it.
    pub reset: bool,
    /// When it came to TIME-WAIT. smoltcp's clock stands still from then on: at
    /// its end it would drop unread bytes.
    stopped: Option<Instant>,
}

impl Endpoint {
    /// A connection of the guest to `remote`, whose SYN comes next.
    pub fn listen(mut sockets: Sockets, track: Track, remote: SocketAddr) -> Self {
        // The socket is closed and the port is one that a SYN was sent to.
        let _ = sockets.socket().listen((remote.ip(), remote.port()));
        Self { sockets, track, reset: false, stopped: None }
    }

    /// A connection of `remote` to the guest; false if it cannot be.
    pub fn connect(
        mut sockets: Sockets,
        track: Track,
        interface: &mut Interface,
        guest: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Self, Sockets> {
        let ends = (IpEndpoint::from(guest), IpEndpoint::from(remote));
        match sockets.socket().connect(interface.context(), ends.0, ends.1) {
            Ok(()) => Ok(Self { sockets, track, reset: false, stopped: None }),
            Err(_) => Err(sockets),
        }
    }

    /// Applies the options of the guest's SYN.
    pub fn agree(&mut self, options: Options) {
        self.track.mss = options.mss.unwrap_or(DEFAULT_MSS).max(LEAST_MSS);
        let shift = options.scale.map_or(0, |_| shift(self.sockets.ring));
        self.track.guard = Guard::new(shift);
    }

    /// Takes it apart, for the next connection.
    pub fn into_sockets(mut self) -> Sockets {
        self.sockets.socket().abort();
        self.sockets
    }

    /// Takes a packet of the guest.
    pub fn deliver(
        &mut self,
        interface: &mut Interface,
        port: &mut dyn Port,
        outbox: &mut Outbox,
        now: Instant,
        found: &Segment,
        packet: &[u8],
    ) {
        if std::mem::take(&mut self.track.again) {
            self.send_again(interface, port, outbox, now);
        }
        let before = self.state();
        let mut line = Line { port, outbox, track: &mut self.track, packet: Some(packet) };
        interface.poll_ingress_single(now, &mut line, &mut self.sockets.set);
        let after = self.state();
        // A reset in SYN-RECEIVED makes smoltcp listen again, for anybody.
        let gone = matches!(after, State::Closed | State::Listen);
        self.reset |= found.has(RST) && before != after && gone;
        if after == State::TimeWait {
            self.stopped.get_or_insert(now);
        }
    }

    /// Has smoltcp begin again with what is not acknowledged, by moving its
    /// clock to where it would. Its window is that of one unit still, so that
    /// this is all there is to be sent.
    fn send_again(
        &mut self,
        interface: &mut Interface,
        port: &mut dyn Port,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let next = self.track.next;
        // An acknowledgement that is being held back may come first.
        for _ in 0..2 {
            let at = self.next(interface, now).unwrap_or(now);
            if !self.send(interface, port, outbox, at) || self.track.next != next {
                return;
            }
        }
    }

    /// Sends one packet if there is one to be sent; whether there was.
    pub fn send(
        &mut self,
        interface: &mut Interface,
        port: &mut dyn Port,
        outbox: &mut Outbox,
        now: Instant,
    ) -> bool {
        let now = self.stopped.unwrap_or(now);
        let mut line = Line { port, outbox, track: &mut self.track, packet: None };
        let sent = interface.poll_egress(now, &mut line, &mut self.sockets.set);
        sent == smoltcp::iface::PollResult::SocketStateChanged
    }

    /// When it wants to be asked to send.
    pub fn next(&mut self, interface: &mut Interface, now: Instant) -> Option<Instant> {
        let next = interface.poll_at(now, &self.sockets.set)?;
        self.stopped.is_none_or(|stopped| next <= stopped).then_some(next)
    }

    /// Reads what the guest sent.
    pub fn read<T>(&mut self, read: impl FnOnce(&mut [u8]) -> (usize, T)) -> Received<T> {
        let socket = self.sockets.socket();
        if !socket.can_recv() && socket.may_recv() {
            return Received::None;
        }
        match socket.recv(read) {
            Ok(result) => Received::Bytes(result),
            Err(RecvError::Finished) => Received::End,
            Err(RecvError::InvalidState) if socket.state() == State::SynReceived => Received::None,
            Err(RecvError::InvalidState) if socket.state() == State::SynSent => Received::None,
            Err(RecvError::InvalidState) => Received::Gone,
        }
    }

    /// Writes to the guest, if there is room.
    pub fn write<T>(&mut self, write: impl FnOnce(&mut [u8]) -> (usize, T)) -> Option<T> {
        let socket = self.sockets.socket();
        if !socket.can_send() {
            return None;
        }
        socket.send(write).ok()
    }

    /// Bytes that the guest has not acknowledged.
    pub fn unacknowledged(&mut self) -> usize {
        self.sockets.socket().send_queue()
    }

    /// Bytes of the guest that were not read yet.
    pub fn unread(&mut self) -> usize {
        self.sockets.socket().recv_queue()
    }

    /// Nothing more will be written; what was goes out.
    pub fn close(&mut self) {
        self.sockets.socket().close();
    }

    /// Ends it with a reset, which goes out with the next [`send`](Self::send).
    pub fn abort(&mut self) {
        self.sockets.socket().abort();
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.sockets.set.get::<Socket<'static>>(self.sockets.handle).state()
    }
}

/// The scale of the windows that rings of this size have.
pub fn shift(ring: usize) -> u8 {
    let bits = usize::BITS - ring.leading_zeros();
    u8::try_from(bits.saturating_sub(16)).unwrap_or(0)
}
