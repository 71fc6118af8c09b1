//! A scripted host network.
//!
//! Tests hold one end of each connection: what the stack wrote is in
//! [`Pipe::written`], what it is to read goes into [`Pipe::incoming`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use super::{Accepted, Datagrams, Echoes, Errno, HostNet, Notice, Ready, Stream, Token};
use crate::policy::Permit;

/// What becomes of a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is there at once.
    Connected,
    /// Nothing ever answers.
    Silent,
    /// It fails, as said once the attempt is under way.
    Failed(Errno),
    /// The attempt itself fails.
    Impossible(Errno),
}

/// One end of a connection, as the test and the stack see it.
#[derive(Debug)]
pub struct Pipe {
    /// The other end's address.
    pub peer: SocketAddr,
    /// Where events go.
    token: Token,
    /// What the stack wrote.
    pub written: Vec<u8>,
    /// How much more it may write before "would block".
    pub room: usize,
    /// What the stack will read.
    pub incoming: VecDeque<u8>,
    /// Behind `incoming` there is an end.
    pub ended: bool,
    /// Behind `incoming` there is an error; writing gives it too.
    pub failed: Option<Errno>,
    /// Where connecting stands.
    pub connecting: Result<(), Errno>,
    /// The stack has shut its writing side down.
    pub finished: bool,
    /// The stack has ended it with a reset.
    pub reset: bool,
    /// The stack has let go of it.
    pub closed: bool,
    /// Keep-alive is on.
    pub kept_alive: bool,
}

/// A connection of the mock.
#[derive(Debug)]
pub struct MockStream(Rc<RefCell<Pipe>>);

/// A listener of the mock: where it listens.
#[derive(Debug)]
pub struct MockListener {
    at: SocketAddr,
    queues: Rc<RefCell<BTreeMap<SocketAddr, Queue>>>,
}

impl Drop for MockListener {
    fn drop(&mut self) {
        self.queues.borrow_mut().remove(&self.at);
    }
}

#[derive(Debug)]
struct Queue {
    token: Token,
    waiting: VecDeque<SocketAddr>,
}

/// The mock.
#[derive(Debug, Default)]
pub struct MockNet {
    /// What becomes of attempts to connect there; elsewhere they succeed.
    pub fates: BTreeMap<SocketAddr, Fate>,
    /// Addresses on which listening fails.
    pub occupied: BTreeSet<SocketAddr>,
    /// Every connection there was, in order.
    pub pipes: Vec<Rc<RefCell<Pipe>>>,
    /// Every UDP socket there was, in order.
    pub messages: Vec<Rc<RefCell<Messages>>>,
    /// Every echo socket there was, in order.
    pub echoes: Vec<Rc<RefCell<EchoBox>>>,
    /// The next sockets that are opened fail so.
    pub exhausted: Option<Errno>,
    queues: Rc<RefCell<BTreeMap<SocketAddr, Queue>>>,
    ready: Vec<Ready>,
}

impl MockNet {
    /// Addresses on which the stack listens.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.queues.borrow().keys().copied().collect()
    }

    /// Addresses at which the stack takes datagrams of anybody, in order.
    pub fn serving(&self) -> Vec<SocketAddr> {
        let open = self.messages.iter().filter(|socket| !socket.borrow().closed);
        let mut found: Vec<_> = open.filter_map(|socket| socket.borrow().at).collect();
        found.sort();
        found
    }

    fn messages(&mut self, messages: Messages) -> MockDatagrams {
        let messages = Rc::new(RefCell::new(messages));
        self.messages.push(messages.clone());
        MockDatagrams(messages)
    }

    /// Somebody connects to a listener; false if there is none.
    pub fn dial(&mut self, at: SocketAddr, peer: SocketAddr) -> bool {
        let mut queues = self.queues.borrow_mut();
        let Some(queue) = queues.get_mut(&at) else { return false };
        queue.waiting.push_back(peer);
        let token = queue.token;
        drop(queues);
        self.ready.push(Ready {
            token,
            readable: true,
            writable: false,
            closing: false,
            failed: false,
        });
        true
    }

    /// Changes a connection from the other end, and makes its event.
    pub fn touch(&mut self, pipe: usize, change: impl FnOnce(&mut Pipe)) {
        let Some(pipe) = self.pipes.get(pipe) else { return };
        let mut pipe = pipe.borrow_mut();
        change(&mut pipe);
        self.ready.push(Ready {
            token: pipe.token,
            readable: !pipe.incoming.is_empty() || pipe.ended,
            writable: pipe.room > 0,
            closing: pipe.ended || pipe.failed.is_some() || pipe.connecting.is_err(),
            failed: pipe.failed.is_some() || pipe.connecting.is_err(),
        });
    }

    /// Changes a UDP socket from outside, and makes its event.
    pub fn deliver(&mut self, socket: usize, change: impl FnOnce(&mut Messages)) {
        let Some(socket) = self.messages.get(socket) else { return };
        let mut socket = socket.borrow_mut();
        change(&mut socket);
        let token = socket.token;
        self.ready.push(Ready {
            token,
            readable: true,
            writable: false,
            closing: true,
            failed: true,
        });
    }

    /// Changes an echo socket from outside, and makes its event.
    pub fn echo(&mut self, socket: usize, change: impl FnOnce(&mut EchoBox)) {
        let Some(socket) = self.echoes.get(socket) else { return };
        let mut socket = socket.borrow_mut();
        change(&mut socket);
        let token = socket.token;
        self.ready.push(Ready {
            token,
            readable: true,
            writable: false,
            closing: true,
            failed: true,
        });
    }

    fn pipe(
        &mut self,
        peer: SocketAddr,
        token: Token,
        connecting: Result<(), Errno>,
    ) -> MockStream {
        let pipe = Rc::new(RefCell::new(Pipe {
            peer,
            token,
            written: Vec::new(),
            room: usize::MAX,
            incoming: VecDeque::new(),
            ended: false,
            failed: None,
            connecting,
            finished: false,
            reset: false,
            closed: false,
            kept_alive: false,
        }));
        self.pipes.push(pipe.clone());
        MockStream(pipe)
    }
}

impl HostNet for MockNet {
    type Stream = MockStream;
    type Listener = MockListener;
    type Datagrams = MockDatagrams;
    type Echoes = MockEchoes;

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn poll(&mut self, ready: &mut Vec<Ready>) {
        ready.append(&mut self.ready);
    }

    fn connect(
        &mut self,
        _permit: &Permit,
        to: SocketAddr,
        token: Token,
    ) -> Result<MockStream, Errno> {
        if let Some(error) = self.exhausted {
            return Err(error);
        }
        let (connecting, writable) = match self.fates.get(&to).unwrap_or(&Fate::Connected) {
            Fate::Connected => (Ok(()), true),
            Fate::Silent => (Ok(()), false),
            Fate::Failed(error) => (Err(*error), true),
            Fate::Impossible(error) => return Err(*error),
        };
        if writable {
            let failed = connecting.is_err();
            self.ready.push(Ready { token, readable: false, writable, closing: failed, failed });
        }
        Ok(self.pipe(to, token, connecting))
    }

    fn listen(&mut self, at: SocketAddr, token: Token) -> Result<MockListener, Errno> {
        if self.occupied.contains(&at) || self.queues.borrow().contains_key(&at) {
            return Err(Errno::ADDRINUSE);
        }
        self.queues.borrow_mut().insert(at, Queue { token, waiting: VecDeque::new() });
        Ok(MockListener { at, queues: self.queues.clone() })
    }

    fn accept(
        &mut self,
        listener: &mut MockListener,
        token: Token,
    ) -> Result<Accepted<MockStream>, Errno> {
        let mut queues = listener.queues.borrow_mut();
        let queue = queues.get_mut(&listener.at).ok_or(Errno::INVAL)?;
        let peer = queue.waiting.pop_front().ok_or(Errno::AGAIN)?;
        drop(queues);
        self.ready.push(Ready {
            token,
            readable: false,
            writable: true,
            closing: false,
            failed: false,
        });
        Ok(Accepted { stream: self.pipe(peer, token, Ok(())), peer, local: listener.at })
    }

    fn datagrams(
        &mut self,
        _permit: &Permit,
        v4: bool,
        port: u16,
        token: Token,
    ) -> Result<MockDatagrams, Errno> {
        if let Some(error) = self.exhausted {
            return Err(error);
        }
        // Somebody else's: another is as good.
        let taken = self.occupied.iter().any(|other| other.is_ipv4() == v4 && other.port() == port);
        let port = if taken { 0 } else { port };
        Ok(self.messages(Messages::new(port, None, token)))
    }

    fn serve(&mut self, at: SocketAddr, token: Token) -> Result<MockDatagrams, Errno> {
        if self.occupied.contains(&at) || self.serving().contains(&at) {
            return Err(Errno::ADDRINUSE);
        }
        Ok(self.messages(Messages::new(at.port(), Some(at), token)))
    }

    fn echoes(&mut self, _permit: &Permit, _v4: bool, token: Token) -> Result<MockEchoes, Errno> {
        let echoes = Rc::new(RefCell::new(EchoBox::new(token)));
        self.echoes.push(echoes.clone());
        Ok(MockEchoes(echoes))
    }
}

impl Stream for MockStream {
    fn error(&mut self) -> Result<(), Errno> {
        self.0.borrow().connecting
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut pipe = self.0.borrow_mut();
        let length = buffer.len().min(pipe.incoming.len());
        if length == 0 {
            return match (pipe.failed, pipe.ended) {
                (Some(error), _) => Err(error),
                (None, true) => Ok(0),
                (None, false) => Err(Errno::AGAIN),
            };
        }
        for (place, byte) in buffer.iter_mut().zip(pipe.incoming.drain(..length)) {
            *place = byte;
        }
        Ok(length)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut pipe = self.0.borrow_mut();
        if let Some(error) = pipe.failed {
            return Err(error);
        }
        if pipe.room == 0 {
            return Err(Errno::AGAIN);
        }
        let length = bytes.len().min(pipe.room);
        pipe.written.extend(bytes.iter().take(length));
        if pipe.room != usize::MAX {
            pipe.room -= length;
        }
        Ok(length)
    }

    fn finish(&mut self) -> Result<(), Errno> {
        self.0.borrow_mut().finished = true;
        Ok(())
    }

    fn keep_alive(&mut self) {
        self.0.borrow_mut().kept_alive = true;
    }

    fn reset(self) {
        self.0.borrow_mut().reset = true;
    }
}

impl Drop for MockStream {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

/// What goes through a UDP socket.
#[derive(Debug)]
pub struct Messages {
    /// Its port.
    pub port: u16,
    /// Its address, if it is bound to one.
    pub at: Option<SocketAddr>,
    token: Token,
    /// What the stack sent: to whom, what, and whether it must stay whole.
    pub sent: Vec<(SocketAddr, Vec<u8>, bool)>,
    /// What the stack will receive.
    pub incoming: VecDeque<(SocketAddr, Vec<u8>)>,
    /// What it will receive.
    pub notices: VecDeque<Notice>,
    /// Sending fails so.
    pub failing: Option<Errno>,
    /// The stack has let go of it.
    pub closed: bool,
}

impl Messages {
    fn new(port: u16, at: Option<SocketAddr>, token: Token) -> Self {
        Self {
            port,
            at,
            token,
            sent: Vec::new(),
            incoming: VecDeque::new(),
            notices: VecDeque::new(),
            failing: None,
            closed: false,
        }
    }
}

/// A UDP socket of the mock.
#[derive(Debug)]
pub struct MockDatagrams(Rc<RefCell<Messages>>);

impl Datagrams for MockDatagrams {
    fn send(&mut self, to: SocketAddr, payload: &[u8], whole: bool) -> Result<(), Errno> {
        let mut messages = self.0.borrow_mut();
        if let Some(error) = messages.failing {
            return Err(error);
        }
        messages.sent.push((to, payload.to_vec(), whole));
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), Errno> {
        let (from, payload) = self.0.borrow_mut().incoming.pop_front().ok_or(Errno::AGAIN)?;
        let length = payload.len().min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(payload) {
            *place = byte;
        }
        Ok((length, from))
    }

    fn notice(&mut self) -> Option<Notice> {
        self.0.borrow_mut().notices.pop_front()
    }

    fn port(&self) -> Result<u16, Errno> {
        Ok(self.0.borrow().port)
    }
}

impl Drop for MockDatagrams {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

/// What goes through an echo socket.
#[derive(Debug)]
pub struct EchoBox {
    token: Token,
    /// Requests: to whom, sequence number, data, hops.
    pub sent: Vec<(IpAddr, u16, Vec<u8>, u8)>,
    /// Replies.
    pub incoming: VecDeque<(IpAddr, u16, Vec<u8>)>,
    /// Errors that the stack will get.
    pub notices: VecDeque<(Notice, u16)>,
    /// The stack has let go of it.
    pub closed: bool,
}

impl EchoBox {
    fn new(token: Token) -> Self {
        Self {
            token,
            sent: Vec::new(),
            incoming: VecDeque::new(),
            notices: VecDeque::new(),
            closed: false,
        }
    }
}

/// An echo socket of the mock.
#[derive(Debug)]
pub struct MockEchoes(Rc<RefCell<EchoBox>>);

impl Echoes for MockEchoes {
    fn send(&mut self, to: IpAddr, sequence: u16, data: &[u8], hops: u8) -> Result<(), Errno> {
        self.0.borrow_mut().sent.push((to, sequence, data.to_vec(), hops));
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<(IpAddr, u16, usize), Errno> {
        let (from, sequence, data) =
            self.0.borrow_mut().incoming.pop_front().ok_or(Errno::AGAIN)?;
        let length = data.len().min(buffer.len());
        for (place, byte) in buffer.iter_mut().zip(data) {
            *place = byte;
        }
        Ok((from, sequence, length))
    }

    fn notice(&mut self) -> Option<(Notice, u16)> {
        self.0.borrow_mut().notices.pop_front()
    }
}

impl Drop for MockEchoes {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}
