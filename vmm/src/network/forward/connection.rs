use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use sandbox_devices::net::{Forward, Meter, Over};
use vmm_sys_util::epoll::EventSet;

use super::pipe::{Pipe, waits};

/// Longest answer line. A guest that sends more without a newline is cut off.
const MAX_LINE: usize = 256;
/// How long the guest's agent may take to dial.
const PATIENCE: Duration = Duration::from_secs(30);

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client = 0,
    Guest = 1,
}

/// What came of a turn.
pub enum Turn {
    /// It waits for one of its ends.
    Waits,
    Over(io::Result<()>),
}

/// How far it is.
enum Phase {
    /// Lines to send, and those that are to be answered, before it begins.
    Greeting { lines: Vec<String>, answer: Vec<u8>, deadline: Instant },
    /// Bytes go both ways.
    Open { up: Pipe, down: Pipe },
}

/// A connection of a client to the guest's loopback.
pub struct Connection {
    client: TcpStream,
    guest: UnixStream,
    meter: Arc<Meter>,
    phase: Phase,
    watched: [EventSet; 2],
}

impl Connection {
    /// Asks the vsock device, which listens at `socket`, for the agent, which
    /// listens on `port` of the guest.
    pub fn begin(forward: Forward, socket: &Path, port: u32, now: Instant) -> io::Result<Self> {
        let Forward { stream, target, meter } = forward;
        let client = TcpStream::from(stream);
        let guest = dial(socket).and_then(|mut guest| {
            guest.write_all(format!("CONNECT {port}\n").as_bytes())?;
            client.set_nonblocking(true)?;
            Ok(guest)
        });
        let guest = guest.inspect_err(|_| {
            reset(&client);
            meter.over(Over::Failed);
        })?;
        let phase = Phase::Greeting {
            lines: vec![format!("{target}\n")],
            answer: Vec::new(),
            deadline: now + PATIENCE,
        };
        Ok(Self { client, guest, meter, phase, watched: [EventSet::empty(); 2] })
    }

    pub fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. })
    }

    pub fn is_late(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Greeting { deadline, .. } if deadline <= now)
    }

    /// May not go on.
    pub fn is_revoked(&self) -> bool {
        self.meter.is_revoked()
    }

    /// The descriptor of an end.
    pub fn fd(&self, side: Side) -> RawFd {
        match side {
            Side::Client => self.client.as_raw_fd(),
            Side::Guest => self.guest.as_raw_fd(),
        }
    }

    /// What an end is watched for.
    pub fn watched(&mut self, side: Side) -> &mut EventSet {
        &mut self.watched[side as usize]
    }

    /// What it is to be watched for.
    pub fn wants(&self, side: Side) -> EventSet {
        let (reads, writes) = match (&self.phase, side) {
            (Phase::Greeting { .. }, side) => (side == Side::Guest, false),
            (Phase::Open { up, down }, Side::Client) => (up.reads(), down.writes()),
            (Phase::Open { up, down }, Side::Guest) => (down.reads(), up.writes()),
        };
        let mut wanted = EventSet::empty();
        wanted.set(EventSet::IN, reads);
        wanted.set(EventSet::OUT, writes);
        wanted
    }

    /// Moves what can be moved.
    pub fn turn(&mut self, block: &mut [u8]) -> Turn {
        match self.go_on(block) {
            Ok(false) => Turn::Waits,
            Ok(true) => Turn::Over(Ok(())),
            Err(error) => Turn::Over(Err(error)),
        }
    }

    /// Answers whether it is done.
    fn go_on(&mut self, block: &mut [u8]) -> io::Result<bool> {
        if self.is_greeting() && !self.greet()? {
            return Ok(false);
        }
        let Phase::Open { up, down } = &mut self.phase else { return Ok(false) };
        self.meter.received(up.pump(&mut self.client, &mut self.guest, block)?);
        self.meter.sent(down.pump(&mut self.guest, &mut self.client, block)?);
        Ok(up.is_done() && down.is_done())
    }

    /// Reads answers; whether the last one is there.
    fn greet(&mut self) -> io::Result<bool> {
        let Phase::Greeting { lines, answer, .. } = &mut self.phase else { return Ok(true) };
        loop {
            let mut byte = [0];
            match self.guest.read(&mut byte) {
                Ok(0) => return Err(io::ErrorKind::ConnectionRefused.into()),
                Ok(_) => answer.push(byte[0]),
                Err(error) if waits(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
            if byte[0] != b'\n' {
                if answer.len() >= MAX_LINE {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                continue;
            }
            if !is_ok(answer) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            answer.clear();
            match lines.pop() {
                // It is the first thing that is sent, and short: it fits.
                Some(line) => self.guest.write_all(line.as_bytes())?,
                None => break,
            }
        }
        self.phase = Phase::Open { up: Pipe::default(), down: Pipe::default() };
        Ok(true)
    }

    /// Closes both ends, with a reset unless both have finished.
    pub fn end(self, how: Option<io::Result<()>>) {
        let over = match &how {
            Some(Ok(())) => Over::Finished,
            Some(Err(_)) if self.is_greeting() => Over::Refused,
            _ => Over::Failed,
        };
        if over != Over::Finished {
            reset(&self.client);
        }
        self.meter.over(over);
    }
}

/// Connects without waiting: a device that does not accept counts as missing.
fn dial(socket: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let guest = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&guest, &SocketAddrUnix::new(socket)?)?;
    Ok(guest.into())
}

/// `OK`, and any text behind it.
fn is_ok(line: &[u8]) -> bool {
    line.strip_prefix(b"OK").is_some_and(|rest| rest.starts_with(b"\n") || rest.starts_with(b" "))
}

/// Makes the close send a reset.
fn reset(client: &TcpStream) {
    // After an error the other end sees a FIN, which is the best that is left.
    let _ = sockopt::set_socket_linger(client, Some(Duration::ZERO));
}
