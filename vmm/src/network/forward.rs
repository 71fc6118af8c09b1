//! Connections to the guest's loopback: no frame reaches it, so each goes over
//! vsock to the guest's agent, which dials there.

mod connection;
mod pipe;

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use sandbox_devices::mailbox::{Inbox, Mailbox, mailbox};
use sandbox_devices::net::Forward;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use connection::{Connection, Side, Turn};
use pipe::BLOCK;

/// Stack of the thread.
const STACK: usize = 64 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 64;
/// Epoll data of what is no connection.
const WAKE: u64 = u64::MAX;
/// How often connections that are being greeted are looked at for being late.
const LOOK: Duration = Duration::from_secs(1);

/// Connections that wait for the thread: as many as the stack lets in.
const WAITING: usize = 512;

/// Returns the device's end, and the thread's. The guest's agent listens on
/// `port`, and the vsock device at `socket`.
pub fn open(socket: PathBuf, port: u32) -> io::Result<(Mailbox<Forward>, Carrier)> {
    let (mailbox, inbox) = mailbox(WAITING)?;
    Ok((mailbox, Carrier::new(socket, port, inbox)?))
}

pub struct Carrier {
    socket: PathBuf,
    port: u32,
    inbox: Inbox<Forward>,
    epoll: Epoll,
    connections: HashMap<u32, Connection>,
    next: u32,
    /// What every connection reads into.
    block: Vec<u8>,
}

impl Carrier {
    fn new(socket: PathBuf, port: u32, inbox: Inbox<Forward>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let event = EpollEvent::new(EventSet::IN, WAKE);
        epoll.ctl(ControlOperation::Add, inbox.waker().as_raw_fd(), event)?;
        let (connections, block) = (HashMap::new(), vec![0; BLOCK]);
        Ok(Self { socket, port, inbox, epoll, connections, next: 0, block })
    }

    pub fn start(mut self) -> io::Result<()> {
        let carry = move || {
            if let Err(error) = self.run() {
                tracing::error!("net: connections to the guest's loopback end: {error}");
            }
        };
        thread::Builder::new().name("forward".into()).stack_size(STACK).spawn(carry)?;
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::default(); EVENTS];
        loop {
            let greeting = self.connections.values().any(Connection::is_greeting);
            let wait = if greeting { LOOK.as_millis() as i32 } else { -1 };
            let count = match self.epoll.wait(wait, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for event in &events[..count] {
                match event.data() {
                    WAKE => self.look(),
                    data => self.turn((data >> 1) as u32),
                }
            }
            if greeting {
                self.end_late();
            }
        }
    }

    /// New connections, and those that may not go on.
    fn look(&mut self) {
        self.inbox.waker().clear();
        let revoked: Vec<u32> =
            self.connections.iter().filter(|(_, c)| c.is_revoked()).map(|(id, _)| *id).collect();
        revoked.into_iter().for_each(|id| self.remove(id, None));
        while let Some(message) = self.inbox.take() {
            self.add(message.command);
        }
    }

    fn add(&mut self, forward: Forward) {
        match Connection::begin(forward, &self.socket, self.port, Instant::now()) {
            Ok(connection) => {
                while self.connections.contains_key(&self.next) {
                    self.next = self.next.wrapping_add(1);
                }
                let id = self.next;
                self.connections.insert(id, connection);
                self.turn(id);
            }
            Err(error) => tracing::warn!("net: no way to the guest's agent: {error}"),
        }
    }

    /// Moves what can be moved.
    fn turn(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let turn = connection.turn(&mut self.block);
        if let Turn::Over(how) = turn {
            return self.remove(id, Some(how));
        }
        if let Err(error) = self.watch(id) {
            tracing::warn!("net: cannot wait for a connection to the guest's loopback: {error}");
            self.remove(id, Some(Err(error)));
        }
    }

    /// Waits for what the connection can go on with.
    fn watch(&mut self, id: u32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        for side in [Side::Client, Side::Guest] {
            let (fd, wanted) = (connection.fd(side), connection.wants(side));
            let watched = connection.watched(side);
            let operation = match (watched.is_empty(), wanted.is_empty()) {
                _ if *watched == wanted => continue,
                (true, _) => ControlOperation::Add,
                // What is watched at all tells of its end, again and again.
                (_, true) => ControlOperation::Delete,
                _ => ControlOperation::Modify,
            };
            *watched = wanted;
            let data = u64::from(id) << 1 | side as u64;
            self.epoll.ctl(operation, fd, EpollEvent::new(wanted, data))?;
        }
        Ok(())
    }

    fn end_late(&mut self) {
        let now = Instant::now();
        let late: Vec<u32> =
            self.connections.iter().filter(|(_, c)| c.is_late(now)).map(|(id, _)| *id).collect();
        for id in late {
            self.remove(id, Some(Err(io::ErrorKind::TimedOut.into())));
        }
    }

    fn remove(&mut self, id: u32, how: Option<io::Result<()>>) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.end(how);
        }
    }
}

#[cfg(test)]
mod tests;
