//! A conversation over a socket, as a script of words: each does one thing
//! with the socket and tells what came of it, errors by the name of their
//! errno. The same words at both ends, on every network.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketType, getpeername,
    getsockname, recv, send, shutdown, socket,
};

use crate::digest::{Sum, pattern};

/// How long an operation may take before it tells `silence` or `pending`:
/// longer than anything that comes at all, where a hypervisor is emulated too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of a line that a peer sends.
const MAX_LINE: usize = 4096;

/// One end of a connection, or a UDP socket with a peer.
pub struct Talk {
    fd: Option<OwnedFd>,
    drained: String,
    told: Vec<String>,
}

impl Talk {
    /// Over a socket that is connected.
    pub fn over(fd: OwnedFd) -> Result<Self> {
        for timeout in [Timeout::Recv, Timeout::Send] {
            sockopt::set_socket_timeout(&fd, timeout, Some(PATIENCE))?;
        }
        Ok(Self { fd: Some(fd), drained: String::new(), told: vec![] })
    }

    /// Over a socket of `kind` that the words `connect`.
    pub fn unconnected(peer: SocketAddr, kind: SocketType) -> Result<Self> {
        Self::over(socket(family(peer), kind, None)?)
    }

    /// Connects to `peer`, unless one of the words is `connect` and says when,
    /// then follows the words. Gives what came of each.
    pub fn follow_to(mut self, peer: SocketAddr, words: &[&str]) -> Result<String> {
        if !words.contains(&"connect") {
            self.word(Some(peer), "connect")?;
        }
        for word in words {
            self.word(Some(peer), word)?;
        }
        Ok(self.told.join(" "))
    }

    /// Follows the words. Gives what came of each.
    pub fn follow(mut self, words: &[&str]) -> Result<String> {
        for word in words {
            self.word(None, word)?;
        }
        Ok(self.told.join(" "))
    }

    fn word(&mut self, peer: Option<SocketAddr>, word: &str) -> Result<()> {
        let (verb, with) = word.split_once(':').unwrap_or((word, ""));
        let said = match (verb, with) {
            ("connect", "") => self.connect(peer.context("nobody to connect to")?)?,
            ("bind", at) => ended(rustix::net::bind(self.fd()?, &at.parse::<SocketAddr>()?), "ok"),
            ("limit", ms) => {
                sockopt::set_tcp_user_timeout(self.fd()?, ms.parse()?)?;
                return Ok(());
            }
            ("patience", ms) => return self.set_patience(millis(ms)?),
            ("send", bytes) => self.send(bytes.parse()?)?,
            ("say", text) => self.say(text)?,
            ("recv", "") => self.receive()?,
            ("text", "") => self.text()?,
            ("line", "") => self.line()?.unwrap_or_else(|error| error),
            ("drain", "") => self.drain()?,
            ("report", "") => self.say(&self.drained.clone())?,
            ("echo", "") => self.echo()?,
            ("peer", "") => self.peer()?,
            ("local", "") => address(getsockname(self.fd()?)),
            ("tell-peer", "") => self.say(&self.peer()?)?,
            ("shut", "") => ended(shutdown(self.fd()?, Shutdown::Write), "ok"),
            ("shut-read", "") => ended(shutdown(self.fd()?, Shutdown::Read), "ok"),
            ("poll", ms) => self.poll(PollFlags::all(), millis(ms)?)?,
            ("await", event) => self.poll(flag(event)?, PATIENCE)?,
            ("error", "") => ended(sockopt::socket_error(self.fd()?)?, "none"),
            ("reset", "") => {
                sockopt::set_socket_linger(self.fd()?, Some(Duration::ZERO))?;
                self.fd = None;
                "ok".to_owned()
            }
            ("close", "") => {
                self.fd = None;
                "ok".to_owned()
            }
            ("pause", ms) => {
                std::thread::sleep(millis(ms)?);
                return Ok(());
            }
            ("script", "") => return self.script(),
            _ => bail!("no such word: {word}"),
        };
        self.told.push(format!("{verb}={said}"));
        Ok(())
    }

    fn fd(&self) -> Result<&OwnedFd> {
        self.fd.as_ref().context("the socket is closed already")
    }

    /// The peer sends what to do, as a line.
    fn script(&mut self) -> Result<()> {
        let line = match self.line()? {
            Ok(line) => line,
            Err(error) => {
                self.told.push(format!("script={error}"));
                return Ok(());
            }
        };
        for word in line.split(',') {
            ensure!(word != "script", "a script that asks for a script");
            self.word(None, word)?;
        }
        Ok(())
    }

    fn connect(&self, peer: SocketAddr) -> Result<String> {
        Ok(ended(rustix::net::connect(self.fd()?, &peer), "ok"))
    }

    fn set_patience(&self, limit: Duration) -> Result<()> {
        for timeout in [Timeout::Recv, Timeout::Send] {
            sockopt::set_socket_timeout(self.fd()?, timeout, Some(limit))?;
        }
        Ok(())
    }

    /// As many bytes as it says, in one datagram or over a stream.
    fn send(&self, bytes: usize) -> Result<String> {
        // More than a datagram can be.
        const CHUNK: usize = 1 << 17;
        for start in (0..bytes.max(1)).step_by(CHUNK) {
            let chunk: Vec<u8> = (start..bytes.min(start + CHUNK)).map(pattern).collect();
            if let Some(error) = self.write(&chunk)? {
                return Ok(error);
            }
        }
        Ok(bytes.to_string())
    }

    fn say(&self, text: &str) -> Result<String> {
        Ok(self.write(format!("{text}\n").as_bytes())?.unwrap_or_else(|| text.to_owned()))
    }

    /// Why not all of it went out, unless it did.
    fn write(&self, mut data: &[u8]) -> Result<Option<String>> {
        loop {
            match send(self.fd()?, data, SendFlags::NOSIGNAL) {
                Ok(sent) => data = &data[sent..],
                Err(error) => return Ok(Some(name(error))),
            }
            if data.is_empty() {
                return Ok(None);
            }
        }
    }

    fn read(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<Result<usize, String>> {
        Ok(recv(self.fd()?, buffer, flags).map(|(_, length)| length).map_err(name))
    }

    fn receive(&self) -> Result<String> {
        let mut buffer = vec![0; 1 << 17];
        Ok(match self.read(&mut buffer, RecvFlags::empty())? {
            Ok(length) => length.to_string(),
            Err(error) => error,
        })
    }

    /// What comes at once, in a datagram or in pieces, as text.
    fn text(&self) -> Result<String> {
        let mut buffer = vec![0; MAX_LINE];
        Ok(match self.read(&mut buffer, RecvFlags::empty())? {
            Ok(length) => String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned(),
            Err(error) => error,
        })
    }

    /// A line of the peer's, or why there is none.
    fn line(&self) -> Result<Result<String, String>> {
        let mut line = vec![];
        while line.len() < MAX_LINE {
            let mut byte = [0];
            match self.read(&mut byte, RecvFlags::empty())? {
                Ok(0) => return Ok(Err("end".to_owned())),
                Ok(_) if byte == *b"\n" => break,
                Ok(_) => line.extend(byte),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(String::from_utf8_lossy(&line).into_owned()))
    }

    /// Everything up to the end: how much, its SHA-256, and the errno if it
    /// did not end in order.
    fn drain(&mut self) -> Result<String> {
        let (mut sum, mut buffer) = (Sum::default(), vec![0; 1 << 16]);
        self.drained = loop {
            match self.read(&mut buffer, RecvFlags::empty())? {
                Ok(0) => break sum.told(),
                Ok(length) => sum.add(&buffer[..length]),
                Err(error) => break format!("{},{error}", sum.told()),
            }
        };
        Ok(self.drained.clone())
    }

    fn echo(&self) -> Result<String> {
        let (mut total, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            match self.read(&mut buffer, RecvFlags::empty())? {
                Ok(0) => return Ok(total.to_string()),
                Ok(length) => {
                    if let Some(error) = self.write(&buffer[..length])? {
                        return Ok(error);
                    }
                    total += length;
                }
                Err(error) => return Ok(error),
            }
        }
    }

    fn peer(&self) -> Result<String> {
        Ok(match getpeername(self.fd()?) {
            Ok(Some(peer)) => address(Ok(peer)),
            Ok(None) => "none".to_owned(),
            Err(error) => name(error),
        })
    }

    /// Which of `events` there are: at once with [`PollFlags::all`] and time
    /// 0, else when the first comes.
    fn poll(&self, events: PollFlags, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        let mut fds = [PollFd::new(self.fd()?, events)];
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now()))?;
        if poll(&mut fds, Some(&left))? == 0 {
            return Ok("silence".to_owned());
        }
        let found = fds[0].revents();
        let names = EVENTS.iter().filter(|(flag, _)| found.contains(*flag)).map(|(_, name)| *name);
        Ok(names.collect::<Vec<_>>().join("|"))
    }
}

const EVENTS: &[(PollFlags, &str)] = &[
    (PollFlags::IN, "in"),
    (PollFlags::OUT, "out"),
    (PollFlags::RDHUP, "rdhup"),
    (PollFlags::ERR, "err"),
    (PollFlags::HUP, "hup"),
];

fn flag(event: &str) -> Result<PollFlags> {
    let found = EVENTS.iter().find(|(_, name)| *name == event);
    found.map(|(flag, _)| *flag).with_context(|| format!("no such event: {event}"))
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn millis(text: &str) -> Result<Duration> {
    Ok(Duration::from_millis(text.parse()?))
}

fn ended(result: rustix::io::Result<()>, well: &str) -> String {
    result.map_or_else(name, |()| well.to_owned())
}

/// `EHOSTUNREACH`; what took too long is `silence`, or `pending` of a connect.
pub fn name(error: impl Into<io::Error>) -> String {
    match error.into().raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => "silence".to_owned(),
        Some(Errno::EINPROGRESS) => "pending".to_owned(),
        errno => format!("{:?}", errno.unwrap_or(Errno::UnknownErrno)),
    }
}

/// With an IPv4 address as such, whichever family the socket has.
fn address(found: rustix::io::Result<SocketAddrAny>) -> String {
    match found.map(SocketAddr::try_from) {
        Ok(Ok(found)) => SocketAddr::new(found.ip().to_canonical(), found.port()).to_string(),
        Ok(Err(error)) | Err(error) => name(error),
    }
}

/// Prints one line.
pub fn tell(line: &str) -> Result<()> {
    use std::io::Write;
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}
