//! The end that waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{BRIEF, BYTES, CHUNK, DOWN, ECHO, HOLD, SILENT, UP, port};

/// Threads that accept brief connections.
const ACCEPTERS: usize = 4;

/// Serves until it is killed; says "ready" when it can be reached.
pub fn forever(at: SocketAddr) -> Result<()> {
    let bytes = TcpListener::bind(port(at, BYTES))?;
    let echo = TcpListener::bind(port(at, ECHO))?;
    let brief = Arc::new(TcpListener::bind(port(at, BRIEF))?);
    let hold = TcpListener::bind(port(at, HOLD))?;
    let silent = TcpListener::bind(port(at, SILENT))?;
    let datagrams = UdpSocket::bind(at)?;
    writeln!(io::stdout(), "ready")?;
    thread::spawn(move || each(&echo, answer));
    for _ in 0..ACCEPTERS {
        let brief = Arc::clone(&brief);
        thread::spawn(move || brief.incoming().for_each(drop));
    }
    thread::spawn(move || keep(&hold));
    thread::spawn(move || silent.incoming().flatten().collect::<Vec<_>>());
    thread::spawn(move || echo_datagrams(&datagrams));
    each(&bytes, pour);
    Ok(())
}

/// A thread for each connection. One that fails has lost its client.
fn each(listener: &TcpListener, serve: fn(TcpStream) -> io::Result<()>) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0; 64];
    loop {
        match stream.read(&mut byte)? {
            0 => return Ok(()),
            read => stream.write_all(&byte[..read])?,
        }
    }
}

/// Takes bytes, or sends some, for as long as the client says.
fn pour(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let (mut way, mut millis) = ([0], [0; 8]);
    stream.read_exact(&mut way)?;
    stream.read_exact(&mut millis)?;
    let until = Duration::from_millis(u64::from_le_bytes(millis));
    match way[0] {
        UP => take(&mut stream, &mut buffer, until),
        DOWN => {
            let start = Instant::now();
            while start.elapsed() < until {
                stream.write_all(&buffer)?;
            }
            Ok(())
        }
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Takes bytes and tells how many they were and how long it took.
fn take(stream: &mut TcpStream, buffer: &mut [u8], until: Duration) -> io::Result<()> {
    let start = Instant::now();
    let mut total = 0_u64;
    while start.elapsed() < until {
        match stream.read(buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => total += read as u64,
        }
    }
    let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    stream.write_all(&total.to_le_bytes())?;
    stream.write_all(&nanos.to_le_bytes())?;
    while stream.read(buffer)? > 0 {}
    Ok(())
}

/// Keeps what connects, having read what it says: a byte for how many more
/// blocks of 1 KiB follow. One byte back says that it has all.
fn keep(listener: &TcpListener) {
    let mut kept = Vec::new();
    let mut block = [0; 1024];
    for mut stream in listener.incoming().flatten() {
        let mut blocks = [0];
        let read = stream.read_exact(&mut blocks).and_then(|()| {
            (0..blocks[0]).try_for_each(|_| stream.read_exact(&mut block))?;
            stream.write_all(&[1])
        });
        if read.is_ok() {
            kept.push(stream);
        }
    }
}

fn echo_datagrams(socket: &UdpSocket) {
    let mut datagram = [0; 2048];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            // Who does not get it asks again.
            let _ = socket.send_to(&datagram[..length], from);
        }
    }
}
