//! Servers and clients, one and many.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::SocketType;

use crate::talk::{Talk, name, tell};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A conversation with `peer`, told in one line.
pub fn tcp(peer: SocketAddr, words: &[&str]) -> Result<()> {
    tell(&Talk::unconnected(peer, SocketType::STREAM)?.follow_to(peer, words)?)
}

/// The same in datagrams.
pub fn udp(peer: SocketAddr, words: &[&str]) -> Result<()> {
    tell(&Talk::unconnected(peer, SocketType::DGRAM)?.follow_to(peer, words)?)
}

/// A conversation with whoever the name leads to, the way programs look names
/// up; the first address is enough.
pub fn tcp_by_name(name: &str, port: u16, words: &[&str]) -> Result<()> {
    match crate::names::addresses(name) {
        Ok(addresses) => {
            let ip = addresses.first().context("a name without addresses")?;
            tcp((*ip, port).into(), words)
        }
        Err(_) => tell("connect=no-name"),
    }
}

/// Says `listening`, then has the same conversation with everyone who comes;
/// tells each.
pub fn listen(at: SocketAddr, words: &[&str]) -> Result<()> {
    let listener = listener(at)?;
    tell("listening")?;
    thread::scope(|scope| {
        loop {
            let (stream, _) = listener.accept()?;
            scope.spawn(|| tell(&Talk::over(stream.into())?.follow(words)?));
        }
    })
}

/// A deep backlog, and an IPv6 socket that takes IPv4 as well.
fn listener(at: SocketAddr) -> Result<TcpListener> {
    use rustix::net::{AddressFamily, bind, listen, socket, sockopt};
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd: OwnedFd = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    bind(&fd, &at).with_context(|| format!("bind {at}"))?;
    listen(&fd, BACKLOG)?;
    Ok(fd.into())
}

/// Says `listening`, then answers each datagram with itself, one that is
/// `peer` with its sender's address.
pub fn udp_echo(at: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(at).with_context(|| format!("bind {at}"))?;
    tell("listening")?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(found) => found,
            // Of an answer to one who is gone.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error.into()),
        };
        tell(&format!("{from} {length}"))?;
        let asked = &buffer[..length] == b"peer\n";
        let answer =
            if asked { format!("{from}\n").into_bytes() } else { buffer[..length].to_vec() };
        // A peer that cannot be answered is the peer's trouble.
        let _ = socket.send_to(&answer, from);
    }
}

/// `count` conversations at once: all are connected before any goes on. Tells
/// how many came out how.
pub fn many(peer: SocketAddr, count: usize, words: &[&str]) -> Result<()> {
    let start = Barrier::new(count);
    let told = thread::scope(|scope| {
        let one = || {
            let stream = TcpStream::connect(peer);
            start.wait();
            match stream {
                Ok(stream) => Talk::over(stream.into())?.follow(words),
                Err(error) => Ok(format!("connect={}", name(error))),
            }
        };
        let all: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        all.into_iter()
            .map(|one| one.join().unwrap_or_else(|_| bail!("a conversation panicked")))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut counted = BTreeMap::new();
    told.into_iter().for_each(|line| *counted.entry(line).or_insert(0) += 1);
    counted.iter().try_for_each(|(line, count)| tell(&format!("{count} {line}")))
}

/// `count` conversations, one after the other. Tells how many came out how,
/// and how many milliseconds the slowest took.
pub fn row(peer: SocketAddr, count: usize, words: &[&str]) -> Result<()> {
    let (mut counted, mut slowest) = (BTreeMap::new(), Duration::ZERO);
    for _ in 0..count {
        let since = Instant::now();
        let line = Talk::unconnected(peer, SocketType::STREAM)?.follow_to(peer, words)?;
        slowest = slowest.max(since.elapsed());
        *counted.entry(line).or_insert(0) += 1;
    }
    counted.iter().try_for_each(|(line, count)| tell(&format!("{count} {line}")))?;
    tell(&format!("slowest {}", slowest.as_millis()))
}

/// For each of `ports`: says its number to `peer`, listens there at once,
/// waits for a byte of the peer's that says go on, and stops listening.
pub fn announce(peer: SocketAddr, ports: std::ops::Range<u16>) -> Result<()> {
    let mut stream = TcpStream::connect(peer)?;
    stream.set_nodelay(true)?;
    for port in ports {
        stream.write_all(&port.to_be_bytes())?;
        let listener = TcpListener::bind(("0.0.0.0", port))?;
        stream.read_exact(&mut [0])?;
        drop(listener);
    }
    Ok(())
}
