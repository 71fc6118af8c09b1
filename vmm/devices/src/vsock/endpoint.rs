use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};

use crate::chain::Reader;

/// How long a host program may take to say which port it wants.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest handshake: `CONNECT 4294967295\n`, and some spaces.
const MAX_HANDSHAKE: usize = 32;

/// The host's side of a connection: a Unix socket, and what the guest sent
/// that it has not taken.
#[derive(Debug)]
pub struct Endpoint {
    /// The socket, which never blocks.
    pub stream: UnixStream,
    /// How far it is.
    pub role: Role,
    /// The other end of the socket is closed.
    pub hung_up: bool,
    /// The kernel is asked to tell when the socket takes more.
    pub watched_for_room: bool,
    held: Vec<u8>,
    /// Bytes of `held` that the socket took.
    taken: usize,
    /// Bytes at the front of `held` that are ours and not the guest's.
    own: usize,
    shut_when_drained: bool,
}

/// See [`Endpoint::role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Is to say which port it wants, until then.
    Handshake(Instant),
    /// Belongs to a connection.
    Joined,
    /// The guest is done; what is held is still delivered.
    Draining,
}

/// The result of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The port.
    Port(u32),
    /// Not all of it is there.
    Partial,
    /// Malformed.
    Bad,
}

impl Endpoint {
    /// A host program that came on the socket for handshakes.
    pub fn in_handshake(stream: UnixStream, now: Instant) -> Self {
        Self::new(stream, Role::Handshake(now + HANDSHAKE_TIMEOUT))
    }

    /// A host program that the guest asked for.
    pub fn joined(stream: UnixStream) -> Self {
        Self::new(stream, Role::Joined)
    }

    fn new(stream: UnixStream, role: Role) -> Self {
        Self {
            stream,
            role,
            hung_up: false,
            watched_for_room: false,
            held: Vec::new(),
            taken: 0,
            own: 0,
            shut_when_drained: false,
        }
    }

    /// Takes the line `CONNECT port\n`, and not a byte of what follows it.
    pub fn handshake(&mut self) -> Handshake {
        let mut line = [0; MAX_HANDSHAKE];
        let seen = match recv(self.stream.as_raw_fd(), &mut line, MsgFlags::MSG_PEEK) {
            Ok(seen) => seen,
            Err(error) if wait(&error.into()) => return Handshake::Partial,
            Err(_) => return Handshake::Bad,
        };
        match line[..seen].iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let read = self.stream.read_exact(&mut line[..=end]);
                let port = read.ok().and_then(|()| parse(&line[..end]));
                port.map_or(Handshake::Bad, Handshake::Port)
            }
            None if seen == 0 || seen == MAX_HANDSHAKE => Handshake::Bad,
            None => Handshake::Partial,
        }
    }

    /// Writes `len` bytes of a packet, or holds what the socket does not
    /// take. Returns how many it took.
    pub fn deliver(&mut self, from: &mut Reader, len: u32) -> io::Result<u32> {
        let mut took = 0;
        if self.held.is_empty() {
            while took < len {
                match from.write_to(&mut self.stream, len - took) {
                    Ok(0) => break,
                    Ok(more) => took += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if wait(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        let at = self.held.len();
        self.held.resize(at + (len - took) as usize, 0);
        from.read_exact(&mut self.held[at..])?;
        Ok(took)
    }

    /// Holds a line for the host program, before anything of the guest.
    pub fn say(&mut self, line: &str) {
        self.held.extend_from_slice(line.as_bytes());
        self.own = self.held.len();
    }

    /// Writes what is held, as far as the socket takes it. Returns how many
    /// of the guest's bytes it took.
    pub fn flush(&mut self) -> (u32, io::Result<()>) {
        let before = self.taken.max(self.own);
        let result = self.write_held();
        let took = self.taken.max(self.own) - before;
        if self.is_drained() {
            self.discard();
            if self.shut_when_drained {
                // Fails only if the other end is gone, which is the same.
                let _ = self.stream.shutdown(Shutdown::Write);
            }
        }
        (u32::try_from(took).unwrap_or(u32::MAX), result)
    }

    fn write_held(&mut self) -> io::Result<()> {
        while self.taken < self.held.len() {
            match self.stream.write(&self.held[self.taken..]) {
                Ok(more) => self.taken += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if wait(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The guest receives no more, or sends no more than what is held.
    pub fn shut(&mut self, read: bool, write: bool) {
        if read {
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        self.shut_when_drained |= write;
    }

    /// Nothing is held.
    pub fn is_drained(&self) -> bool {
        self.taken == self.held.len()
    }

    /// Drops what is held, and its memory. Returns how many bytes of the
    /// guest that were.
    pub fn discard(&mut self) -> u32 {
        let dropped = self.held.len() - self.taken.max(self.own);
        self.held = Vec::new();
        (self.taken, self.own) = (0, 0);
        u32::try_from(dropped).unwrap_or(u32::MAX)
    }
}

/// There is nothing to do but wait.
pub fn wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn parse(line: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(line).ok()?;
    let (word, port) = line.trim_end().split_once(' ')?;
    (word.eq_ignore_ascii_case("connect")).then(|| port.trim().parse().ok())?
}
