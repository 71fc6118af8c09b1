use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::connection::{Connection, Effect, Key};
use super::header::{HOST_CID, Header, Op, SHUT_BOTH, STREAM};

/// Names a connection's host side; the caller chooses it.
pub type Id = u64;

/// First and last port that host-initiated connections come from: above what
/// guests listen on.
const FIRST_PORT: u32 = 0x4000_0000;
const LAST_PORT: u32 = 0x7fff_ffff;
/// Resets of connections that there are not, waiting for the guest to take
/// them. With so many, no more of its packets are read: a guest that sends
/// garbage and takes no answers must not fill the host's memory.
const MAX_RESETS: usize = 256;

/// What the guest's packet asks of the host's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// To connect to a host port. [`Mux::accept`] or [`Mux::refuse`] answers.
    Connect,
    /// To do this to a connection. After [`Effect::Over`] the mux knows it no
    /// more.
    On(Id, Effect),
}

/// What the guest is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A packet without data.
    Control(Header),
    /// Data of this connection, this many bytes at most: [`Mux::sent`],
    /// [`Mux::host_blocked`] or [`Mux::host_shut`] reports the outcome.
    Data(Id, u32),
}

/// All connections of a guest: which packet belongs to which, and which has
/// something for the guest, in turn.
#[derive(Debug)]
pub struct Mux {
    cid: u64,
    guest_ports: Vec<u32>,
    connections: HashMap<Id, Connection>,
    keys: HashMap<Key, Id>,
    scheduled: VecDeque<Id>,
    resets: VecDeque<Header>,
    last_port: u32,
}

impl Mux {
    /// The guest `cid`, which may connect to `guest_ports` of the host.
    pub fn new(cid: u32, guest_ports: Vec<u32>) -> Self {
        Self {
            cid: cid.into(),
            guest_ports,
            connections: HashMap::new(),
            keys: HashMap::new(),
            scheduled: VecDeque::new(),
            resets: VecDeque::new(),
            last_port: LAST_PORT,
        }
    }

    /// Forgets everything that belongs to the guest's driver.
    pub fn reset(&mut self) {
        self.connections.clear();
        self.keys.clear();
        self.scheduled.clear();
        self.resets.clear();
    }

    /// Asks the guest for a connection to its port.
    pub fn request(&mut self, id: Id, guest_port: u32) -> Key {
        let mut key = Key { guest_port, host_port: self.next_port() };
        while self.keys.contains_key(&key) {
            key.host_port = self.next_port();
        }
        self.insert(id, Connection::requesting(key));
        key
    }

    fn next_port(&mut self) -> u32 {
        self.last_port = if self.last_port == LAST_PORT { FIRST_PORT } else { self.last_port + 1 };
        self.last_port
    }

    /// Whether another packet of the guest may be taken.
    pub fn takes_packets(&self) -> bool {
        self.resets.len() < MAX_RESETS
    }

    /// Takes a packet of the guest that is followed by `payload` bytes.
    pub fn packet(&mut self, header: &Header, payload: u32) -> Action {
        if header.src_cid != self.cid || header.dst_cid != HOST_CID {
            return Action::Nothing;
        }
        if header.kind != STREAM {
            self.refuse(header);
            return Action::Nothing;
        }
        let key = Key::of(header);
        let id = self.keys.get(&key).copied();
        if let Some((id, connection)) = id.and_then(|id| Some((id, self.connections.get_mut(&id)?)))
        {
            let effect = connection.packet(header, payload);
            self.settle(id, key, effect);
            return Action::On(id, effect);
        }
        if self.is_wanted(header) {
            return Action::Connect;
        }
        self.refuse(header);
        Action::Nothing
    }

    fn is_wanted(&self, header: &Header) -> bool {
        header.op == Op::Request as u16 && self.guest_ports.contains(&header.dst_port)
    }

    fn settle(&mut self, id: Id, key: Key, effect: Effect) {
        match effect {
            Effect::Over { answered } => {
                self.remove(id);
                if answered {
                    self.resets.push_back(key.header(self.cid, Op::Reset));
                }
            }
            _ => self.schedule(id),
        }
    }

    /// The host accepts the connection that `request` asked for.
    pub fn accept(&mut self, id: Id, request: &Header) {
        self.insert(id, Connection::accepted(request));
    }

    /// There is no such connection, or there will not be. Resets are not
    /// answered: two sides that refuse each other would never end.
    pub fn refuse(&mut self, header: &Header) {
        if header.op != Op::Reset as u16 {
            let mut reset = Key::of(header).header(self.cid, Op::Reset);
            reset.kind = header.kind;
            self.resets.push_back(reset);
        }
    }

    /// The next thing to be sent. Something may turn out to be nothing.
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(Next::Control(reset));
        }
        while let Some(id) = self.scheduled.pop_front() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.scheduled = false;
            let control = connection.control(self.cid, now);
            let most = connection.may_send();
            if control.is_none() && most == 0 {
                continue;
            }
            // The others come first.
            self.schedule(id);
            return Some(control.map_or(Next::Data(id, most), Next::Control));
        }
        None
    }

    /// Whether [`next`](Self::next) may have anything.
    pub fn has_next(&self) -> bool {
        !self.resets.is_empty() || !self.scheduled.is_empty()
    }

    /// `len` bytes of `id` are sent to the guest, with this header.
    pub fn sent(&mut self, id: Id, len: u32) -> Option<Header> {
        let cid = self.cid;
        self.connections.get_mut(&id).map(|connection| connection.data_header(cid, len))
    }

    /// The host took `len` bytes of the guest's.
    pub fn forwarded(&mut self, id: Id, len: u32) {
        self.on(id, |connection| connection.forwarded(len));
    }

    /// The host's side may have data.
    pub fn host_readable(&mut self, id: Id) {
        self.on(id, Connection::host_readable);
    }

    /// The host's side has no data now.
    pub fn host_blocked(&mut self, id: Id) {
        self.on(id, Connection::host_blocked);
    }

    /// Whether the host's data, or the end of it, is still of interest.
    pub fn reads_from_host(&self, id: Id) -> bool {
        self.connections.get(&id).is_some_and(Connection::reads_from_host)
    }

    /// The host sends or receives, by `flags`, nothing more.
    pub fn host_shut(&mut self, id: Id, flags: u32, now: Instant) {
        self.on(id, |connection| connection.host_shut(flags, now));
    }

    /// The host has gone away. Returns whether the connection lives on, until
    /// the guest is done with it.
    pub fn host_gone(&mut self, id: Id, now: Instant) -> bool {
        let Some(connection) = self.connections.get(&id) else { return false };
        if connection.is_open() {
            self.host_shut(id, SHUT_BOTH, now);
            return true;
        }
        self.give_up(id);
        false
    }

    /// Ends the connection without the guest's consent.
    pub fn give_up(&mut self, id: Id) {
        if let Some(connection) = self.remove(id)
            && connection.is_known_to_guest()
        {
            self.resets.push_back(connection.key.header(self.cid, Op::Reset));
        }
    }

    /// Connections whose time is over, to be given up.
    pub fn overdue(&self, now: Instant) -> Vec<Id> {
        let overdue = |c: &Connection| c.deadline.is_some_and(|deadline| deadline <= now);
        self.connections.iter().filter(|(_, c)| overdue(c)).map(|(id, _)| *id).collect()
    }

    /// When the first connection is overdue.
    pub fn deadline(&self) -> Option<Instant> {
        self.connections.values().filter_map(|connection| connection.deadline).min()
    }

    fn on(&mut self, id: Id, act: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.get_mut(&id) {
            act(connection);
            self.schedule(id);
        }
    }

    fn schedule(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.scheduled
            && connection.has_something()
        {
            connection.scheduled = true;
            self.scheduled.push_back(id);
        }
    }

    fn insert(&mut self, id: Id, connection: Connection) {
        self.keys.insert(connection.key, id);
        self.connections.insert(id, connection);
        self.schedule(id);
    }

    fn remove(&mut self, id: Id) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        self.keys.remove(&connection.key);
        Some(connection)
    }

    #[cfg(test)]
    pub fn connection(&mut self, id: Id) -> &mut Connection {
        self.connections.get_mut(&id).unwrap_or_else(|| unreachable!("no connection {id}"))
    }
}
