#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use sandbox_devices::mailbox::Waker;
use sandbox_devices::net::Meter;

use super::*;

/// Long enough for a loaded machine; nothing waits for it that goes well.
const PATIENCE: Duration = Duration::from_secs(20);

/// The thread, and a stand-in for the vsock device.
struct World {
    post: Mailbox<Forward>,
    vsock: UnixListener,
    tcp: TcpListener,
    device: Waker,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vsock.sock");
        let vsock = UnixListener::bind(&socket).unwrap();
        let (post, carrier) = open(socket, 1026).unwrap();
        carrier.start().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let device = Waker::new().unwrap();
        Self { post, vsock, tcp, device, folder }
    }

    /// A client that is forwarded.
    fn dial(&mut self) -> (TcpStream, Arc<Meter>) {
        let client = TcpStream::connect(self.tcp.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let (stream, _) = self.tcp.accept().unwrap();
        let meter = Arc::new(Meter::new(self.device.clone()));
        let target = "127.0.0.1:8080".parse().unwrap();
        self.post
            .try_send(Forward { stream: stream.into(), target, meter: meter.clone() })
            .unwrap();
        (client, meter)
    }

    /// Waits until the device was woken; returns how often.
    fn wakes(&self) -> u64 {
        use rustix::event::{PollFd, PollFlags, poll};
        poll(&mut [PollFd::new(&self.device, PollFlags::IN)], None).unwrap();
        let mut count = [0; 8];
        rustix::io::read(&self.device, &mut count).unwrap();
        u64::from_ne_bytes(count)
    }

    /// The guest's end, with the agent's answer to the target.
    fn guest(&self, answer: &str) -> BufReader<UnixStream> {
        let (guest, _) = self.vsock.accept().unwrap();
        guest.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut guest = BufReader::new(guest);
        assert_eq!(line(&mut guest), "CONNECT 1026\n");
        guest.get_mut().write_all(b"OK 1073741824\n").unwrap();
        assert_eq!(line(&mut guest), "127.0.0.1:8080\n");
        guest.get_mut().write_all(answer.as_bytes()).unwrap();
        guest
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

fn is_reset(client: &mut TcpStream) {
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn bytes_and_ends_go_both_ways() {
    let mut world = World::new();
    let (mut client, _) = world.dial();
    let mut guest = world.guest("OK\nhello ");
    guest.get_mut().write_all(b"client").unwrap();
    let mut bytes = [0; 12];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello client");
    client.write_all(b"hello guest").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    guest.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello guest", "and the end of it, while the other half is open");
    guest.get_mut().write_all(b" bye").unwrap();
    guest.get_mut().shutdown(Shutdown::Write).unwrap();
    said.clear();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, " bye");
    assert_eq!(world.wakes(), 1);
}

#[test]
fn a_slow_reader_holds_a_fast_writer_and_loses_nothing() {
    let mut world = World::new();
    let (client, _) = world.dial();
    let mut guest = world.guest("OK\n");
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|i| (i ^ i >> 11) as u8).collect();
    let sent = bytes.clone();
    let writer = thread::spawn(move || {
        (&client).write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    let mut came = Vec::new();
    guest.read_to_end(&mut came).unwrap();
    assert!(came == bytes);
    let mut client = writer.join().unwrap();
    let writer = thread::spawn(move || guest.get_mut().write_all(&bytes).map(|()| bytes));
    came.clear();
    client.read_to_end(&mut came).unwrap();
    assert!(came == writer.join().unwrap().unwrap());
}

#[test]
fn who_is_not_taken_is_reset() {
    let mut world = World::new();
    let (mut client, _) = world.dial();
    let guest = world.guest("ERR nobody listens on 127.0.0.1:8080\n");
    is_reset(&mut client);
    drop(guest);
    // No agent at all.
    let (mut client, _) = world.dial();
    drop(world.vsock.accept().unwrap());
    is_reset(&mut client);
    // An answer without an end.
    let (mut client, _) = world.dial();
    let (mut guest, _) = world.vsock.accept().unwrap();
    guest.write_all(&[b'x'; 1000]).unwrap();
    is_reset(&mut client);
}

#[test]
fn without_a_vsock_device_it_is_a_reset_too() {
    let mut world = World::new();
    std::fs::remove_file(world.folder.path().join("vsock.sock")).unwrap();
    let (mut client, _) = world.dial();
    is_reset(&mut client);
}

#[test]
fn who_may_not_go_on_is_reset() {
    let mut world = World::new();
    let (mut client, meter) = world.dial();
    let mut guest = world.guest("OK\n");
    client.write_all(b"x").unwrap();
    guest.read_exact(&mut [0]).unwrap();
    meter.revoke();
    world.post.waker().wake();
    is_reset(&mut client);
    assert_eq!(guest.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_client_that_resets_ends_it() {
    let mut world = World::new();
    let (client, _) = world.dial();
    let mut guest = world.guest("OK\n");
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(guest.read(&mut [0]).unwrap(), 0);
    assert_eq!(world.wakes(), 1);
}
