use std::time::{Duration, Instant};

use super::credit::Credit;
use super::header::{HOST_CID, Header, Op, SHUT_BOTH, SHUT_RECEIVE, SHUT_SEND, STREAM};

/// How long the guest may take to answer a REQUEST: longer, and it hangs.
pub const ANSWER: Duration = Duration::from_secs(30);
/// How long the guest may take to end a connection that the host has closed,
/// as Linux gives its peers.
pub const CLOSE: Duration = Duration::from_secs(8);

/// The two ports of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// In the guest.
    pub guest_port: u32,
    /// On the host.
    pub host_port: u32,
}

impl Key {
    /// Of a packet from the guest.
    pub fn of(header: &Header) -> Key {
        Key { guest_port: header.src_port, host_port: header.dst_port }
    }

    /// A packet to the guest `cid`.
    pub fn header(self, cid: u64, op: Op) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: cid,
            src_port: self.host_port,
            dst_port: self.guest_port,
            kind: STREAM,
            op: op as u16,
            ..Header::default()
        }
    }
}

/// What a packet of the guest means for the host's side of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing, or only that more may be sent.
    Nothing,
    /// The guest granted the connection.
    Opened,
    /// The packet's data goes to the host.
    Deliver,
    /// The guest receives no more, or sends no more.
    Shut {
        /// Nothing more is to be read from the host.
        read: bool,
        /// After what is held, nothing more is written to the host.
        write: bool,
    },
    /// The guest is done with the connection; it is to be `answered` with a
    /// reset.
    Over {
        /// See above.
        answered: bool,
    },
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The host asked; the guest has not answered.
    Requesting,
    Open,
}

/// What the guest is to be sent, beside data.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    request: bool,
    response: bool,
    shutdown: bool,
    update: bool,
    ask: bool,
}

/// A connection's state, without its sockets: packets and events go in,
/// [`Effect`]s and packets come out.
#[derive(Debug)]
pub struct Connection {
    /// Its ports.
    pub key: Key,
    /// Is in the queue of those that have something for the guest.
    pub scheduled: bool,
    /// When it is given up.
    pub deadline: Option<Instant>,
    phase: Phase,
    owed: Owed,
    credit: Credit,
    /// Credit was requested of the guest, which has sent no packet since.
    asked: bool,
    /// The host's socket may have data.
    readable: bool,
    guest_shut: u32,
    host_shut: u32,
}

impl Connection {
    fn new(key: Key, phase: Phase, owed: Owed) -> Self {
        Self {
            key,
            scheduled: false,
            deadline: None,
            phase,
            owed,
            credit: Credit::default(),
            asked: false,
            readable: false,
            guest_shut: 0,
            host_shut: 0,
        }
    }

    /// A connection that the host asks for.
    pub fn requesting(key: Key) -> Self {
        Self::new(key, Phase::Requesting, Owed { request: true, ..Owed::default() })
    }

    /// A connection that the guest asked for, by `request`, and that the host
    /// has accepted.
    pub fn accepted(request: &Header) -> Self {
        let owed = Owed { response: true, ..Owed::default() };
        let mut connection = Self::new(Key::of(request), Phase::Open, owed);
        connection.credit.learn(request);
        connection
    }

    /// Takes a packet of the guest that is followed by `payload` bytes.
    pub fn packet(&mut self, header: &Header, payload: u32) -> Effect {
        self.credit.learn(header);
        self.asked = false;
        let answered = Effect::Over { answered: true };
        match (self.phase, Op::from_number(header.op)) {
            (_, Some(Op::Reset)) => Effect::Over { answered: false },
            (Phase::Requesting, Some(Op::Response)) => {
                self.phase = Phase::Open;
                self.deadline = None;
                Effect::Opened
            }
            (Phase::Open, Some(Op::Data)) => self.data(header, payload),
            (Phase::Open, Some(Op::Shutdown)) => self.shut_by_guest(header.flags),
            (_, Some(Op::CreditUpdate)) => Effect::Nothing,
            (Phase::Open, Some(Op::CreditRequest)) => {
                self.owed.update = true;
                Effect::Nothing
            }
            _ => answered,
        }
    }

    fn data(&mut self, header: &Header, payload: u32) -> Effect {
        let allowed = self.guest_shut & SHUT_SEND == 0
            && header.len <= payload
            && header.len <= self.credit.room_on_host();
        if !allowed {
            return Effect::Over { answered: true };
        }
        self.credit.received(header.len);
        Effect::Deliver
    }

    fn shut_by_guest(&mut self, flags: u32) -> Effect {
        self.guest_shut |= flags & SHUT_BOTH;
        if self.guest_shut == SHUT_BOTH {
            return Effect::Over { answered: true };
        }
        if self.guest_shut & SHUT_RECEIVE != 0 {
            self.readable = false;
        }
        Effect::Shut {
            read: self.guest_shut & SHUT_RECEIVE != 0,
            write: self.guest_shut & SHUT_SEND != 0,
        }
    }

    /// The host took `len` bytes of the guest's data.
    pub fn forwarded(&mut self, len: u32) {
        self.credit.forwarded(len);
        if self.credit.update_is_due() {
            self.owed.update = true;
        }
    }

    /// The host's socket may have data.
    pub fn host_readable(&mut self) {
        let wanted = self.guest_shut & SHUT_RECEIVE == 0;
        self.readable = wanted && self.host_shut & SHUT_SEND == 0;
    }

    /// Whether the host's data, or the end of it, is still of interest.
    pub fn reads_from_host(&self) -> bool {
        let wanted = self.guest_shut & SHUT_RECEIVE == 0;
        self.phase == Phase::Open && wanted && self.host_shut & SHUT_SEND == 0
    }

    /// The host's socket has no data now.
    pub fn host_blocked(&mut self) {
        self.readable = false;
    }

    /// The host sends or receives, by `flags`, nothing more.
    pub fn host_shut(&mut self, flags: u32, now: Instant) {
        if self.host_shut | flags == self.host_shut {
            return;
        }
        self.host_shut |= flags;
        self.owed.shutdown = true;
        if self.host_shut & SHUT_SEND != 0 {
            self.readable = false;
        }
        if self.host_shut == SHUT_BOTH {
            self.deadline = Some(now + CLOSE);
        }
    }

    /// Whether the guest knows of the connection yet.
    pub fn is_known_to_guest(&self) -> bool {
        !self.owed.request
    }

    /// Whether the guest has granted it.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the guest is to be sent anything, as far as is known.
    pub fn has_something(&self) -> bool {
        let Owed { request, response, shutdown, update, ask } = self.owed;
        request || response || shutdown || update || ask || self.may_send() > 0 || self.must_ask()
    }

    /// Most bytes of data that may be sent to the guest now.
    pub fn may_send(&self) -> u32 {
        let sending = self.phase == Phase::Open && self.readable;
        if sending { self.credit.room_in_guest() } else { 0 }
    }

    fn must_ask(&self) -> bool {
        self.phase == Phase::Open
            && self.readable
            && self.credit.room_in_guest() == 0
            && !self.asked
    }

    /// The next packet that carries no data. A shutdown comes after all data:
    /// it is owed only once the host's socket is read to its end.
    pub fn control(&mut self, cid: u64, now: Instant) -> Option<Header> {
        let mut header = self.key.header(cid, self.next_op(now)?);
        if header.op == Op::Shutdown as u16 {
            header.flags = self.host_shut;
        }
        self.credit.tell(&mut header);
        Some(header)
    }

    fn next_op(&mut self, now: Instant) -> Option<Op> {
        let owed = &mut self.owed;
        if std::mem::take(&mut owed.request) {
            self.deadline = Some(now + ANSWER);
            return Some(Op::Request);
        }
        if self.phase == Phase::Requesting {
            return None;
        }
        // Every packet carries the credit.
        if std::mem::take(&mut owed.response) {
            owed.update = false;
            return Some(Op::Response);
        }
        if std::mem::take(&mut owed.shutdown) {
            return Some(Op::Shutdown);
        }
        if std::mem::take(&mut owed.update) {
            return Some(Op::CreditUpdate);
        }
        if self.must_ask() {
            self.asked = true;
            return Some(Op::CreditRequest);
        }
        None
    }

    /// The header of `len` bytes that are being sent.
    pub fn data_header(&mut self, cid: u64, len: u32) -> Header {
        let mut header = self.key.header(cid, Op::Data);
        header.len = len;
        self.credit.sent(len);
        self.credit.tell(&mut header);
        self.owed.update = false;
        header
    }

    #[cfg(test)]
    pub fn wrap_counters(&mut self) {
        self.credit = Credit::near_wraparound();
    }
}
