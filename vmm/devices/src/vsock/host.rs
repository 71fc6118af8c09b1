use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::VsockConfig;
use super::connection::Effect;
use super::endpoint::{Endpoint, Handshake, Role, wait};
use super::header::{Header, SHUT_BOTH, SHUT_RECEIVE, SHUT_SEND};
use super::mux::{Id, Mux};
use crate::chain::{Reader, Writer};

/// Most connections, those that are only being delivered included: each may
/// hold a window of data and a file descriptor.
pub const MAX_CONNECTIONS: usize = 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 64;
/// Epoll data of what is no connection.
const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// What every connection is watched for.
const READABLE: EventSet =
    EventSet::IN.union(EventSet::READ_HANG_UP).union(EventSet::EDGE_TRIGGERED);

/// What came of filling a buffer of the guest.
pub enum Filled {
    /// Data, with this header.
    Data(Header),
    /// The host's side had none.
    Nothing,
}

/// The host's sockets, and the connections that they are the ends of. One
/// epoll fd reports them all.
pub struct Host {
    /// The connections as the guest sees them.
    pub mux: Mux,
    endpoints: HashMap<Id, Endpoint>,
    next_id: Id,
    listener: UnixListener,
    /// Host programs may be waiting to be accepted.
    waiting: bool,
    sockets: PathBuf,
    epoll: Epoll,
    timer: TimerFd,
    armed: Option<Instant>,
}

impl AsRawFd for Host {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl Host {
    /// See [`super::Vsock::new`].
    pub fn new(config: VsockConfig) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        config.listener.set_nonblocking(true)?;
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let timer_fd = timer.as_fd().as_raw_fd();
        for (fd, data) in [(config.listener.as_raw_fd(), LISTENER), (timer_fd, TIMER)] {
            epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(edge, data))?;
        }
        Ok(Self {
            mux: Mux::new(config.cid, config.guest_ports),
            endpoints: HashMap::new(),
            next_id: 0,
            listener: config.listener,
            waiting: true,
            sockets: config.sockets,
            epoll,
            timer,
            armed: None,
        })
    }

    /// Closes every connection.
    pub fn reset(&mut self) {
        self.mux.reset();
        self.endpoints.clear();
    }

    /// Takes what the kernel has to tell.
    pub fn events(&mut self, now: Instant) -> io::Result<()> {
        let mut events = [EpollEvent::default(); EVENTS];
        loop {
            let count = match self.epoll.wait(0, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.waiting = true,
                    TIMER => self.expire(now),
                    id => self.event(id, event.event_set(), now),
                }
            }
            // What was accepted may have greeted already.
            if !self.accept(now) && count < EVENTS {
                return Ok(());
            }
        }
    }

    fn event(&mut self, id: Id, set: EventSet, now: Instant) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        endpoint.hung_up |= set.intersects(EventSet::HANG_UP | EventSet::ERROR);
        match endpoint.role {
            Role::Handshake(_) => self.handshake(id),
            Role::Joined => {
                if set.contains(EventSet::OUT) {
                    self.flush(id, now);
                }
                if set.intersects(!EventSet::OUT) {
                    self.readable(id, now);
                }
            }
            Role::Draining => self.flush(id, now),
        }
    }

    /// Data, the end of data, or the end of the other side: a read
    /// distinguishes them, except for a connection that is not read from.
    fn readable(&mut self, id: Id, now: Instant) {
        self.mux.host_readable(id);
        let hung_up = self.endpoints.get(&id).is_some_and(|endpoint| endpoint.hung_up);
        if hung_up && !self.mux.reads_from_host(id) {
            self.gone(id, now);
        }
    }

    /// Accepts waiting connections; returns whether there was one.
    fn accept(&mut self, now: Instant) -> bool {
        let mut accepted = false;
        while self.waiting && self.endpoints.len() < MAX_CONNECTIONS {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let ready = stream.set_nonblocking(true);
                    if ready.is_ok() {
                        accepted |= self.add(Endpoint::in_handshake(stream, now)).is_some();
                    }
                }
                Err(error) if wait(&error) => self.waiting = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!("vsock: cannot accept a connection: {error}");
                    self.waiting = false;
                }
            }
        }
        accepted
    }

    fn add(&mut self, endpoint: Endpoint) -> Option<Id> {
        let id = self.next_id;
        let event = EpollEvent::new(READABLE, id);
        let fd = endpoint.stream.as_raw_fd();
        if let Err(error) = self.epoll.ctl(ControlOperation::Add, fd, event) {
            tracing::warn!("vsock: cannot watch a connection: {error}");
            return None;
        }
        self.next_id += 1;
        self.endpoints.insert(id, endpoint);
        Some(id)
    }

    fn handshake(&mut self, id: Id) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        match endpoint.handshake() {
            Handshake::Partial => {}
            Handshake::Bad => {
                self.endpoints.remove(&id);
            }
            Handshake::Port(port) => {
                endpoint.role = Role::Joined;
                self.mux.request(id, port);
            }
        }
    }

    /// Connects the guest to a host port, or refuses it.
    pub fn connect(&mut self, request: &Header) {
        match self.connected(request.dst_port) {
            Ok(id) => self.mux.accept(id, request),
            Err(error) => {
                tracing::info!("vsock: no connection to port {}: {error}", request.dst_port);
                self.mux.refuse(request);
            }
        }
    }

    fn connected(&mut self, port: u32) -> io::Result<Id> {
        if self.endpoints.len() >= MAX_CONNECTIONS {
            return Err(io::Error::other("too many connections"));
        }
        let address = UnixAddr::new(&self.sockets.join(format!("vsock.sock_{port}")))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        // A server whose backlog is full is one that does not answer.
        connect(socket.as_raw_fd(), &address)?;
        let endpoint = Endpoint::joined(UnixStream::from(socket));
        self.add(endpoint).ok_or_else(|| io::Error::other("cannot be watched"))
    }

    /// Does to the host's side what a packet of the guest asks.
    pub fn apply(
        &mut self,
        id: Id,
        effect: Effect,
        header: &Header,
        reader: &mut Reader,
        now: Instant,
    ) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        match effect {
            Effect::Nothing => {}
            Effect::Opened => {
                endpoint.say(&format!("OK {}\n", header.dst_port));
                self.flush(id, now);
                self.readable(id, now);
            }
            Effect::Deliver => {
                let result = endpoint.deliver(reader, header.len);
                match result {
                    Ok(took) => {
                        self.mux.forwarded(id, took);
                        self.watch_for_room(id);
                    }
                    Err(_) => self.deaf(id, header.len, now),
                }
            }
            Effect::Shut { read, write } => {
                endpoint.shut(read, write);
                self.flush(id, now);
            }
            Effect::Over { .. } => {
                endpoint.role = Role::Draining;
                self.flush(id, now);
            }
        }
    }

    /// The host receives no more: what it is sent is gone, as with TCP, the
    /// `len` bytes at hand included.
    fn deaf(&mut self, id: Id, len: u32, now: Instant) {
        let held = self.endpoints.get_mut(&id).map_or(0, Endpoint::discard);
        self.mux.forwarded(id, held.saturating_add(len));
        self.mux.host_shut(id, SHUT_RECEIVE, now);
    }

    fn flush(&mut self, id: Id, now: Instant) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let (took, result) = endpoint.flush();
        let done = endpoint.is_drained() || result.is_err();
        if endpoint.role == Role::Draining && done {
            self.endpoints.remove(&id);
            return;
        }
        self.mux.forwarded(id, took);
        if result.is_err() {
            self.deaf(id, 0, now);
        }
        self.watch_for_room(id);
    }

    /// Waits for EPOLLOUT as long as bytes for the socket are held.
    fn watch_for_room(&mut self, id: Id) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
        let wanted = !endpoint.is_drained();
        if endpoint.watched_for_room == wanted {
            return;
        }
        endpoint.watched_for_room = wanted;
        let set = if wanted { READABLE | EventSet::OUT } else { READABLE };
        let (fd, event) = (endpoint.stream.as_raw_fd(), EpollEvent::new(set, id));
        if let Err(error) = self.epoll.ctl(ControlOperation::Modify, fd, event) {
            tracing::warn!("vsock: cannot watch a connection: {error}");
        }
    }

    /// Reads from the host into a buffer of the guest.
    pub fn fill(&mut self, id: Id, writer: &mut Writer, most: u32, now: Instant) -> Filled {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            self.mux.host_blocked(id);
            return Filled::Nothing;
        };
        loop {
            match writer.read_from(&mut endpoint.stream, most) {
                Ok(0) => {
                    let flags = if endpoint.hung_up { SHUT_BOTH } else { SHUT_SEND };
                    self.mux.host_shut(id, flags, now);
                    return Filled::Nothing;
                }
                Ok(read) => {
                    return self.mux.sent(id, read).map_or(Filled::Nothing, Filled::Data);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if wait(&error) => {
                    self.mux.host_blocked(id);
                    return Filled::Nothing;
                }
                Err(_) => {
                    self.gone(id, now);
                    return Filled::Nothing;
                }
            }
        }
    }

    fn gone(&mut self, id: Id, now: Instant) {
        if !self.mux.host_gone(id, now) {
            self.endpoints.remove(&id);
        }
    }

    fn expire(&mut self, now: Instant) {
        self.armed = None;
        let overdue = |role: Role| matches!(role, Role::Handshake(deadline) if deadline <= now);
        self.endpoints.retain(|_, endpoint| !overdue(endpoint.role));
        for id in self.mux.overdue(now) {
            self.mux.give_up(id);
            self.endpoints.remove(&id);
        }
    }

    /// Sets the timer to the first deadline, if it is not set to it already.
    pub fn arm(&mut self) -> io::Result<()> {
        let handshake = |endpoint: &Endpoint| match endpoint.role {
            Role::Handshake(deadline) => Some(deadline),
            _ => None,
        };
        let handshakes = self.endpoints.values().filter_map(handshake).min();
        let Some(deadline) = handshakes.into_iter().chain(self.mux.deadline()).min() else {
            return Ok(());
        };
        // A timer that rings too early is set again.
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer.set(expiration, TimerSetTimeFlags::empty())?;
        self.armed = Some(deadline);
        Ok(())
    }
}
