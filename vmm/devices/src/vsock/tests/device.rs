//! The whole device: a mock driver on one side, Unix sockets on the other.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::super::credit::WINDOW;
use super::super::host::MAX_CONNECTIONS;
use super::*;
use crate::mock::{Driver, Part};
use crate::{Device, DeviceError, Vsock, VsockConfig};

const TO_GUEST: usize = 0;
const FROM_GUEST: usize = 1;
/// Size of the buffers that the driver posts.
const BUFFER: u32 = 4096;

struct Guest {
    device: Vsock,
    driver: Driver,
    directory: tempfile::TempDir,
    buffers: Vec<u64>,
    pending: VecDeque<(Header, Vec<u8>)>,
}

impl Guest {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("vsock.sock")).unwrap();
        let sockets = directory.path().to_owned();
        let guest_ports = vec![HOST_PORT];
        let config = VsockConfig { cid: CID, listener, sockets, guest_ports };
        let mut device = Vsock::new(config).unwrap();
        device.start(0).unwrap();
        let driver = Driver::new(&device);
        Self { device, driver, directory, buffers: vec![0; 1024], pending: VecDeque::new() }
    }

    /// Posts buffers for packets of the host.
    fn post(&mut self, count: usize) {
        for _ in 0..count {
            let addr = self.driver.buffer(BUFFER);
            let head = self.driver.chain(TO_GUEST, &[Part { addr, len: BUFFER, write: true }]);
            self.buffers[usize::from(head)] = addr;
        }
    }

    fn turn(&mut self) {
        self.device.kicked(FROM_GUEST, &mut self.driver.io()).unwrap();
    }

    fn send(&mut self, header: &Header, data: &[u8]) {
        self.send_raw(&[&header.bytes(), data].concat());
        self.turn();
    }

    fn send_raw(&mut self, packet: &[u8]) {
        let addr = self.driver.bytes(packet);
        let len = packet.len() as u32;
        self.driver.chain(FROM_GUEST, &[Part { addr, len, write: false }]);
    }

    /// Packets of the host since the last call.
    fn received(&mut self) -> Vec<(Header, Vec<u8>)> {
        self.turn();
        let returned = self.driver.returned(TO_GUEST);
        let packet = |(head, len): (u16, u32)| {
            let bytes = self.driver.read(self.buffers[usize::from(head)], len as usize);
            let (header, data) = bytes.split_first_chunk().unwrap();
            (Header::parse(header), data.to_vec())
        };
        returned.into_iter().map(packet).collect()
    }

    /// Waits, as the epoll set of the adapter would, for a packet of the host.
    /// Packets of other kinds before it are dropped.
    fn await_packet(&mut self, op: Op) -> (Header, Vec<u8>) {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            while let Some((header, data)) = self.pending.pop_front() {
                if header.op == op as u16 {
                    return (header, data);
                }
            }
            let received = self.received();
            self.pending.extend(received);
            std::thread::yield_now();
        }
        panic!("no {op:?} came")
    }

    fn host_connects(&self) -> UnixStream {
        let mut stream = UnixStream::connect(self.directory.path().join("vsock.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        writeln!(stream, "CONNECT {GUEST_PORT}").unwrap();
        stream
    }

    /// A connection that the host asked for; the host's end and the request.
    fn connect(&mut self) -> (UnixStream, Header) {
        let mut host = self.host_connects();
        let (request, _) = self.await_packet(Op::Request);
        self.send(&answer(&request, Op::Response), &[]);
        let expected = format!("OK {}\n", request.src_port);
        let mut line = vec![0; expected.len()];
        host.read_exact(&mut line).unwrap();
        assert_eq!(line, expected.as_bytes());
        (host, request)
    }

    fn data(&mut self, request: &Header, data: &[u8]) {
        let header = Header { len: data.len() as u32, ..answer(request, Op::Data) };
        self.send(&header, data);
    }
}

fn read_all(mut host: &UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    host.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn data_goes_both_ways() {
    let mut guest = Guest::new();
    guest.post(64);
    let (mut host, request) = guest.connect();
    host.write_all(b"to the guest").unwrap();
    let (header, data) = guest.await_packet(Op::Data);
    assert_eq!((header.len, data.as_slice()), (12, &b"to the guest"[..]));
    guest.data(&request, b"to the host");
    let mut text = [0; 11];
    host.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"to the host");
}

#[test]
fn what_follows_the_handshake_is_data() {
    let mut guest = Guest::new();
    guest.post(64);
    let mut host = guest.host_connects();
    host.write_all(b"early").unwrap();
    let (request, _) = guest.await_packet(Op::Request);
    assert!(guest.received().is_empty(), "nothing before the answer");
    guest.send(&answer(&request, Op::Response), &[]);
    assert_eq!(guest.await_packet(Op::Data).1, b"early");
}

#[test]
fn a_host_that_comes_before_the_driver_waits() {
    let mut guest = Guest::new();
    let mut host = guest.host_connects();
    assert!(guest.received().is_empty(), "no buffer yet");
    guest.post(64);
    let (request, _) = guest.await_packet(Op::Request);
    guest.send(&answer(&request, Op::Reset), &[]);
    assert_eq!(host.read(&mut [0; 1]).unwrap(), 0, "no one listens");
}

#[test]
fn bad_handshakes_are_hung_up_on() {
    let mut guest = Guest::new();
    guest.post(64);
    let path = guest.directory.path().join("vsock.sock");
    let long = "CONNECT 1".to_owned() + &"0".repeat(40);
    for handshake in [
        "\n",
        "HELLO 5\n",
        "CONNECT\n",
        "CONNECT x\n",
        "CONNECT -1\n",
        "CONNECT 4294967296\n",
        "CONNECT 1 2\n",
        &long,
    ] {
        let mut host = UnixStream::connect(&path).unwrap();
        host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        host.write_all(handshake.as_bytes()).unwrap();
        let reader = std::thread::spawn(move || host.read(&mut [0; 1]));
        while !reader.is_finished() {
            assert!(guest.received().is_empty(), "{handshake:?}");
        }
        // Reset, if there was more than the line.
        let read = reader.join().unwrap().or_else(|error| match error.kind() {
            ErrorKind::ConnectionReset => Ok(0),
            _ => Err(error),
        });
        assert_eq!(read.unwrap(), 0, "{handshake:?}");
    }
}

#[test]
fn the_guest_reaches_its_ports_alone() {
    let mut guest = Guest::new();
    guest.post(64);
    let path = |port| guest.directory.path().join(format!("vsock.sock_{port}"));
    let listener = UnixListener::bind(path(HOST_PORT)).unwrap();
    let _other = UnixListener::bind(path(HOST_PORT + 1)).unwrap();
    guest.send(&from_guest(Op::Request, 5000, HOST_PORT + 1), &[]);
    guest.await_packet(Op::Reset);
    guest.send(&from_guest(Op::Request, 5000, HOST_PORT), &[]);
    guest.await_packet(Op::Response);
    let (mut host, _) = listener.accept().unwrap();
    host.write_all(b"welcome").unwrap();
    assert_eq!(guest.await_packet(Op::Data).1, b"welcome");
    drop(listener);
    guest.send(&from_guest(Op::Request, 5001, HOST_PORT), &[]);
    guest.await_packet(Op::Reset);
}

#[test]
fn a_slow_host_gets_everything_and_holds_the_guest_back() {
    let mut guest = Guest::new();
    guest.post(200);
    let (host, request) = guest.connect();
    let block: Vec<u8> = (0..=255).cycle().take(60_000).collect();
    let (mut sent, mut known) = (0u32, 0u32);
    // As much as the credit allows, with nobody reading.
    while sent.wrapping_sub(known) + 60_000 <= WINDOW {
        guest.data(&request, &block);
        sent += 60_000;
        for (header, _) in guest.received() {
            known = header.fwd_cnt;
        }
    }
    assert!(sent >= WINDOW - 60_000);
    guest.send(&Header { flags: SHUT_BOTH, ..answer(&request, Op::Shutdown) }, &[]);
    guest.await_packet(Op::Reset);
    let reader = std::thread::spawn(move || read_all(&host));
    while !reader.is_finished() {
        guest.turn();
        std::thread::yield_now();
    }
    let all = reader.join().unwrap();
    assert_eq!(all.len(), sent as usize, "also what the guest sent before it closed");
    assert!(all.chunks(60_000).all(|chunk| chunk == &block[..chunk.len()]));
}

#[test]
fn more_than_the_credit_allows_is_reset() {
    let mut guest = Guest::new();
    guest.post(200);
    let (_host, request) = guest.connect();
    let block = vec![0; 60_000];
    for _ in 0..100 {
        guest.data(&request, &block);
        if guest.received().iter().any(|(header, _)| header.op == Op::Reset as u16) {
            return;
        }
    }
    panic!("6 MB were taken without a reader");
}

#[test]
fn half_close_by_the_host() {
    let mut guest = Guest::new();
    guest.post(64);
    let (mut host, request) = guest.connect();
    host.write_all(b"question").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.await_packet(Op::Data).1, b"question");
    let (shutdown, _) = guest.await_packet(Op::Shutdown);
    assert_eq!(shutdown.flags, SHUT_SEND);
    guest.data(&request, b"answer");
    guest.send(&Header { flags: SHUT_BOTH, ..answer(&request, Op::Shutdown) }, &[]);
    assert_eq!(read_all(&host), b"answer");
    guest.await_packet(Op::Reset);
}

#[test]
fn half_close_by_the_guest() {
    let mut guest = Guest::new();
    guest.post(64);
    let (mut host, request) = guest.connect();
    guest.data(&request, b"question");
    guest.send(&Header { flags: SHUT_SEND, ..answer(&request, Op::Shutdown) }, &[]);
    assert_eq!(read_all(&host), b"question");
    host.write_all(b"answer").unwrap();
    assert_eq!(guest.await_packet(Op::Data).1, b"answer");
    drop(host);
    let (shutdown, _) = guest.await_packet(Op::Shutdown);
    assert_eq!(shutdown.flags, SHUT_BOTH);
}

#[test]
fn the_host_closes_with_data_on_its_way() {
    let mut guest = Guest::new();
    guest.post(64);
    let (mut host, request) = guest.connect();
    host.write_all(b"last words").unwrap();
    drop(host);
    assert_eq!(guest.await_packet(Op::Data).1, b"last words");
    let (shutdown, _) = guest.await_packet(Op::Shutdown);
    assert_eq!(shutdown.flags & SHUT_SEND, SHUT_SEND);
    guest.data(&request, b"nobody hears this");
    guest.send(&answer(&request, Op::Reset), &[]);
    assert!(guest.received().iter().all(|(h, _)| h.op != Op::Data as u16));
}

#[test]
fn a_reset_by_the_guest_closes_the_host_s_end() {
    let mut guest = Guest::new();
    guest.post(64);
    let (host, request) = guest.connect();
    guest.data(&request, b"before");
    guest.send(&answer(&request, Op::Reset), &[]);
    assert_eq!(read_all(&host), b"before");
}

#[test]
fn a_flood_of_connections_is_refused_at_the_bound() {
    let mut guest = Guest::new();
    let listener =
        UnixListener::bind(guest.directory.path().join(format!("vsock.sock_{HOST_PORT}"))).unwrap();
    let mut accepted = Vec::new();
    let mut refused = 0;
    for port in 0..MAX_CONNECTIONS as u32 + 10 {
        if port % 64 == 0 {
            guest.driver = Driver::new(&guest.device);
            guest.post(80);
        }
        guest.send(&from_guest(Op::Request, port, HOST_PORT), &[]);
        match guest.received().first() {
            Some((header, _)) if header.op == Op::Response as u16 => {
                accepted.push(listener.accept().unwrap());
            }
            Some((header, _)) if header.op == Op::Reset as u16 => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((accepted.len(), refused), (MAX_CONNECTIONS, 10));
}

#[test]
fn garbage_packets() {
    let mut guest = Guest::new();
    guest.post(64);
    let (mut host, _) = guest.connect();
    for len in 0..HEADER {
        guest.send_raw(&vec![0xff; len]);
    }
    guest.send_raw(&[0xff; 1000]);
    guest.send_raw(&[0; 1000]);
    let huge = Header { len: u32::MAX, ..from_guest(Op::Data, 1, 2) };
    guest.send_raw(&huge.bytes());
    guest.turn();
    assert_eq!(guest.driver.returned(FROM_GUEST).len(), HEADER + 3 + 1);
    host.write_all(b"still here").unwrap();
    assert_eq!(guest.await_packet(Op::Data).1, b"still here");
}

#[test]
fn a_flood_of_packets_that_are_answered_waits_for_the_guest() {
    let mut guest = Guest::new();
    for port in 0..1000 {
        guest.send_raw(&from_guest(Op::Data, port, 1).bytes());
    }
    guest.turn();
    let taken = guest.driver.returned(FROM_GUEST).len();
    assert!((200..400).contains(&taken), "{taken} packets were taken");
    guest.post(250);
    let answered = guest.received().len();
    assert_eq!(answered, 250);
    let more = guest.driver.returned(FROM_GUEST).len();
    assert!((249..=251).contains(&more), "{more} more packets were taken");
}

#[test]
fn buffers_too_small_for_a_packet_are_the_driver_s_fault() {
    for len in [0, 1, 43, 44] {
        let mut guest = Guest::new();
        let mut host = guest.host_connects();
        guest.post(1);
        let (request, _) = guest.await_packet(Op::Request);
        guest.send(&answer(&request, Op::Response), &[]);
        host.write_all(b"x").unwrap();
        let addr = guest.driver.buffer(64);
        guest.driver.chain(TO_GUEST, &[Part { addr, len, write: true }]);
        let until = Instant::now() + Duration::from_secs(10);
        let error = loop {
            match guest.device.kicked(0, &mut guest.driver.io()) {
                Err(error) => break error,
                Ok(_) => assert!(Instant::now() < until, "{len} bytes were taken"),
            }
        };
        assert!(matches!(error, DeviceError::Request { queue: TO_GUEST, .. }), "{error:?}");
    }
}

#[test]
fn a_looped_chain_stops_the_device() {
    let mut guest = Guest::new();
    guest.driver.describe(FROM_GUEST, 0, Part { addr: 0, len: 8, write: false }, 1, 0);
    guest.driver.offer(FROM_GUEST, 0);
    assert!(guest.device.kicked(FROM_GUEST, &mut guest.driver.io()).is_err());
}

#[test]
fn a_reset_of_the_device_closes_everything() {
    let mut guest = Guest::new();
    guest.post(64);
    let (host, _) = guest.connect();
    guest.device.reset();
    assert_eq!(read_all(&host), b"");
    guest.device.start(0).unwrap();
    guest.driver = Driver::new(&guest.device);
    guest.post(64);
    guest.connect();
}
