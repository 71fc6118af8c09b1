//! A guest and host programs that do anything to the socket device: packets
//! with any header, buffers of any size, connections that come and go.
#![no_main]

mod input;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::LazyLock;

use input::Input;
use libfuzzer_sys::fuzz_target;
use nix::sys::signal::{SigHandler, Signal, signal};
use sandbox_devices::mock::{Driver, Part};
use sandbox_devices::{Device, Vsock, VsockConfig};

/// Most steps of one input.
const STEPS: usize = 64;

struct Host {
    folder: PathBuf,
    server: UnixListener,
    programs: Vec<UnixStream>,
}

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    // As the runtime of Rust has it, whose `main` libFuzzer replaces.
    // SAFETY: ignoring a signal runs no code.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.unwrap();
    tempfile::tempdir().unwrap()
});

impl Host {
    fn new() -> (Self, UnixListener) {
        let folder = FOLDER.path().to_owned();
        let bind = |name: &str| {
            let path = folder.join(name);
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(path).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let (server, listener) = (bind("vsock.sock_1024"), bind("vsock.sock"));
        (Self { folder, server, programs: Vec::new() }, listener)
    }

    fn step(&mut self, what: u8, input: &mut Input) {
        match what % 6 {
            0 => {
                let Ok(mut program) = UnixStream::connect(self.folder.join("vsock.sock")) else {
                    return;
                };
                let len = usize::from(input.byte().unwrap_or(0) % 40);
                let _ = match len {
                    0 => program.write_all(b"CONNECT 1025\n"),
                    len => program.write_all(input.bytes(len)),
                };
                let _ = program.set_nonblocking(true);
                self.programs.push(program);
            }
            1 => {
                if let Ok((program, _)) = self.server.accept() {
                    let _ = program.set_nonblocking(true);
                    self.programs.push(program);
                }
            }
            2 => {
                let len = usize::from(input.half());
                let block = vec![input.byte().unwrap_or(0); len];
                let _ = self.pick(input).map(|mut program| program.write(&block));
            }
            3 => {
                let mut block = vec![0; usize::from(input.half())];
                let _ = self.pick(input).map(|mut program| program.read(&mut block));
            }
            4 => {
                let how = [Shutdown::Read, Shutdown::Write][usize::from(what / 6 % 2)];
                let _ = self.pick(input).map(|program| program.shutdown(how));
            }
            _ => {
                if !self.programs.is_empty() {
                    let index = usize::from(input.byte().unwrap_or(0)) % self.programs.len();
                    self.programs.swap_remove(index);
                }
            }
        }
    }

    fn pick(&self, input: &mut Input) -> Option<&UnixStream> {
        let index = usize::from(input.byte()?);
        self.programs.get(index.checked_rem(self.programs.len())?)
    }
}

/// A packet whose fields are likely to mean something.
fn packet(input: &mut Input) -> Vec<u8> {
    let any = input.byte().unwrap_or(0);
    let mut packet = Vec::new();
    packet.extend_from_slice(&(if any & 1 == 0 { 3u64 } else { 4 }).to_le_bytes());
    packet.extend_from_slice(&2u64.to_le_bytes());
    // Host-initiated connections come from these ports of the host, in turn.
    let host_port = match any >> 1 & 3 {
        0 => 1024,
        1 => 1025,
        _ => 0x4000_0000 + u32::from(input.byte().unwrap_or(0) % 4),
    };
    let guest_port = 1025 + u32::from(any >> 3 & 1);
    packet.extend_from_slice(&guest_port.to_le_bytes());
    packet.extend_from_slice(&host_port.to_le_bytes());
    let len = input.half();
    let claimed = if any & 0x80 == 0 { u32::from(len) } else { input.word() };
    packet.extend_from_slice(&claimed.to_le_bytes());
    let kind: u16 = if any & 0x40 == 0 { 1 } else { 2 };
    packet.extend_from_slice(&kind.to_le_bytes());
    packet.extend_from_slice(&u16::from(input.byte().unwrap_or(0) % 10).to_le_bytes());
    packet.extend_from_slice(&u32::from(input.byte().unwrap_or(0) % 4).to_le_bytes());
    packet.extend_from_slice(&input.word().to_le_bytes());
    packet.extend_from_slice(&input.word().to_le_bytes());
    packet.resize(packet.len() + usize::from(len), 0x55);
    packet
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (mut host, listener) = Host::new();
    let sockets = host.folder.clone();
    let config = VsockConfig { cid: 3, listener, sockets, guest_ports: vec![1024] };
    let mut device = Vsock::new(config).unwrap();
    device.start(0).unwrap();
    let mut driver = Driver::new(&device);
    let mut memory = 0;
    for _ in 0..STEPS {
        let Some(what) = input.byte() else { break };
        // The mock's memory is 2 MiB of buffers.
        memory += 70_000;
        let full = memory > 1 << 20;
        match what % 4 {
            0 if !full => {
                let packet = packet(&mut input);
                let (addr, len) = (driver.bytes(&packet), packet.len() as u32);
                driver.chain(1, &[Part { addr, len, write: false }]);
            }
            1 if !full => {
                let len = u32::from(input.half() % 5000);
                let addr = driver.buffer(len);
                driver.chain(0, &[Part { addr, len, write: true }]);
            }
            2 if !full => {
                let raw = input.bytes(usize::from(what / 4));
                if !raw.is_empty() {
                    let (addr, len) = (driver.bytes(raw), raw.len() as u32);
                    driver.chain(1, &[Part { addr, len, write: false }]);
                }
            }
            _ => {
                memory -= 70_000;
                host.step(what / 4, &mut input);
            }
        }
        if device.kicked(usize::from(what % 3), &mut driver.io()).is_err() {
            device.reset();
            return;
        }
    }
});
