//! The end that begins.

use std::io::{ErrorKind, Read, Write, stdin, stdout};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt;

use super::{BRIEF, BYTES, CHUNK, DOWN, ECHO, HOLD, SILENT, UP, port};

/// How long a datagram may take before it is sent again.
const LOST: Duration = Duration::from_millis(200);

/// How long an answer may take at all.
const DEAD: Duration = Duration::from_secs(5);

/// How long all connections that are to be held may take together.
const HOLDING: Duration = Duration::from_secs(20);

/// Bytes, and the time they took.
struct Poured {
    bytes: u64,
    took: Duration,
}

/// Sends for so long; what arrived.
pub fn up(to: SocketAddr, seconds: f64, streams: usize) -> Result<String> {
    let until = Duration::from_secs_f64(seconds);
    Ok(line(&together(streams, || send(to, until))?))
}

/// Receives for so long.
pub fn down(to: SocketAddr, seconds: f64, streams: usize) -> Result<String> {
    let until = Duration::from_secs_f64(seconds);
    Ok(line(&together(streams, || receive(to, until))?))
}

/// One of each at a time.
pub fn both(to: SocketAddr, seconds: f64) -> Result<String> {
    let (turn, until) = (AtomicUsize::new(0), Duration::from_secs_f64(seconds));
    let poured = together(2, || match turn.fetch_add(1, Ordering::Relaxed) {
        0 => send(to, until),
        _ => receive(to, until),
    })?;
    Ok(line(&poured))
}

fn line(poured: &[Poured]) -> String {
    let rate: f64 = poured.iter().map(|one| one.bytes as f64 * 8.0 / one.took.as_secs_f64()).sum();
    let bytes: u64 = poured.iter().map(|one| one.bytes).sum();
    format!("gbit={:.4} bytes={bytes}", rate / 1e9)
}

/// Runs it in as many threads at a time.
fn together<T: Send>(count: usize, run: impl Fn() -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&run)).collect();
        let one = |thread: thread::ScopedJoinHandle<'_, Result<T>>| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread died"),
        };
        threads.into_iter().map(one).collect()
    })
}

fn dial(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, DEAD).with_context(|| format!("dialling {to}"))?;
    stream.set_read_timeout(Some(DEAD))?;
    stream.set_write_timeout(Some(DEAD))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends until the server says that it is over, by its own clock: so nothing
/// hangs on how an end is passed on.
fn send(to: SocketAddr, until: Duration) -> Result<Poured> {
    let mut stream = dial(port(to, BYTES))?;
    let buffer = vec![0; CHUNK];
    let millis = u64::try_from(until.as_millis())?;
    stream.write_all(&[UP])?;
    stream.write_all(&millis.to_le_bytes())?;
    let mut answers = stream.try_clone()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let answer = scope.spawn(|| {
            let mut answer = [0; 16];
            let read = answers.read_exact(&mut answer);
            over.store(true, Ordering::Relaxed);
            // Wakes who is sending.
            let _ = answers.shutdown(Shutdown::Both);
            read.map(|()| answer)
        });
        let mut sent = Ok(());
        while sent.is_ok() && !over.load(Ordering::Relaxed) {
            sent = stream.write_all(&buffer);
        }
        let Ok(answer) = answer.join() else { bail!("a thread died") };
        let answer = answer.context("the count of what arrived")?;
        let [bytes, nanos] = [0, 8].map(|at| number(&answer[at..at + 8]));
        Ok(Poured { bytes, took: Duration::from_nanos(nanos) })
    })
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Receives for so long, and then what was on its way.
fn receive(to: SocketAddr, until: Duration) -> Result<Poured> {
    let mut stream = dial(port(to, BYTES))?;
    let mut buffer = vec![0; CHUNK];
    let millis = u64::try_from(until.as_millis())?;
    stream.write_all(&[DOWN])?;
    stream.write_all(&millis.to_le_bytes())?;
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < until {
        match stream.read(&mut buffer)? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    let took = start.elapsed();
    // A tool that stumbles over an end has been measured all the same.
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    Ok(Poured { bytes, took })
}

/// A byte there and back, over and over.
pub fn tcp_round_trips(to: SocketAddr, seconds: f64) -> Result<String> {
    let mut stream = dial(port(to, ECHO))?;
    round_trips(seconds, || {
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        Ok(())
    })
}

/// The same in datagrams.
pub fn udp_round_trips(to: SocketAddr, seconds: f64) -> Result<String> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { "::".parse()? };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(LOST))?;
    let started = Instant::now();
    round_trips(seconds, || {
        loop {
            socket.send(&[1])?;
            match socket.recv(&mut [0]) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if started.elapsed() > DEAD {
                bail!("no answer from {to}");
            }
        }
    })
}

fn round_trips(seconds: f64, mut once: impl FnMut() -> Result<()>) -> Result<String> {
    // Whatever is made at the first time is not measured.
    once()?;
    let (start, until) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut took = Vec::new();
    while start.elapsed() < until {
        let began = Instant::now();
        once()?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let rank = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64();
    let [p50, p95, p99] = [50, 95, 99].map(|percent| rank(percent) * 1e6);
    Ok(format!("p50={p50:.2} p95={p95:.2} p99={p99:.2}"))
}

/// Connects and ends, over and over.
pub fn connect(to: SocketAddr, seconds: f64, callers: usize) -> Result<String> {
    let (start, until) = (Instant::now(), Duration::from_secs_f64(seconds));
    let counts = together(callers, || {
        let mut count = 0_u64;
        while start.elapsed() < until {
            connect_once(to)?;
            count += 1;
        }
        Ok(count)
    })?;
    let total: u64 = counts.iter().sum();
    Ok(format!("rate={:.1}", total as f64 / start.elapsed().as_secs_f64()))
}

fn connect_once(to: SocketAddr) -> Result<()> {
    let mut stream = dial(port(to, BRIEF))?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => bail!("the server said something"),
    }
}

/// So many connections, one after the other.
pub fn churn(to: SocketAddr, connections: usize) -> Result<String> {
    let start = Instant::now();
    (0..connections).try_for_each(|_| connect_once(to))?;
    Ok(format!("rate={:.1}", connections as f64 / start.elapsed().as_secs_f64()))
}

/// Opens so many, each of which sends this many blocks of 1 KiB and gets a
/// byte back, or nothing at all for none; says when they are there, and keeps
/// them until stdin ends.
pub fn hold(to: SocketAddr, connections: usize, blocks: u8) -> Result<()> {
    let mut message = vec![blocks];
    message.resize(1 + usize::from(blocks) * 1024, 0);
    let mut kept = Vec::with_capacity(connections);
    let start = Instant::now();
    for _ in 0..connections {
        if start.elapsed() > HOLDING {
            bail!("only {} connections in {HOLDING:?}", kept.len());
        }
        let mut stream = dial(port(to, if blocks == 0 { SILENT } else { HOLD }))?;
        // They end all at once, however this program does.
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        if blocks > 0 {
            stream.write_all(&message)?;
            stream.read_exact(&mut [0])?;
        }
        kept.push(stream);
    }
    writeln!(stdout(), "held={}", kept.len())?;
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
