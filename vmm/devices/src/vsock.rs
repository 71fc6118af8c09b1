//! Socket device (virtio 1.2 section 5.10), with Firecracker's convention on
//! the host: a program that connects to the device's Unix socket and writes
//! `CONNECT port\n` reads `OK its-own-port\n` and is then connected to the
//! guest's port; a connection that the guest makes to port P of the host is
//! one to the Unix socket `vsock.sock_P`.

mod connection;
mod credit;
mod endpoint;
mod header;
mod host;
mod mux;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use sandbox_vm_spec::devices::DeviceKind;
use vmm_sys_util::epoll::EventSet;

use crate::{Chain, Device, DeviceError, QueueIo, Signals, Token, Watched};
use header::{HEADER, Header};
use host::{Filled, Host};
use mux::{Action, Next};

/// Packets of the guest that are taken before the host's sockets are looked
/// at again: a guest that never pauses must not keep the others waiting.
const BATCH: usize = 64;

/// The host's side of the device.
#[derive(Debug)]
pub struct VsockConfig {
    /// Context id of the guest.
    pub cid: u32,
    /// Where host programs connect.
    pub listener: UnixListener,
    /// Directory of the sockets for connections of the guest.
    pub sockets: PathBuf,
    /// Host ports that the guest may connect to.
    pub guest_ports: Vec<u32>,
}

/// The socket device.
pub struct Vsock {
    host: Host,
    config: [u8; 8],
}

impl Vsock {
    /// A device with nothing connected. Host programs that connect before the
    /// guest's driver is up wait.
    pub fn new(config: VsockConfig) -> io::Result<Self> {
        let cid = u64::from(config.cid).to_le_bytes();
        Ok(Self { host: Host::new(config)?, config: cid })
    }

    /// Moves packets in both directions until neither can.
    fn turn(&mut self, io: &mut [QueueIo]) -> Result<Signals, DeviceError> {
        let [to_guest, from_guest, ..] = io else { return Ok(Signals::default()) };
        let failed = |source| DeviceError::Host { what: "cannot wait for host sockets", source };
        loop {
            let now = Instant::now();
            self.host.events(now).map_err(failed)?;
            let sent = self.send(to_guest, now)?;
            let received = self.receive(from_guest, now)?;
            if !sent && !received {
                break;
            }
        }
        self.host.arm().map_err(failed)?;
        Signals::collect(io)
    }

    /// Fills the guest's buffers; returns whether there is more to fill them
    /// with and buffers came meanwhile.
    fn send(&mut self, queue: &mut QueueIo, now: Instant) -> Result<bool, DeviceError> {
        let mut sent = false;
        while self.host.mux.has_next() {
            let Some(chain) = queue.pop()? else {
                if queue.rearm()? {
                    continue;
                }
                break;
            };
            match self.fill(&chain, queue, now)? {
                Some(len) => queue.push(&chain, len)?,
                None => queue.unpop(),
            }
            sent = true;
        }
        Ok(sent)
    }

    /// Fills one buffer with the next packet, if there is one.
    fn fill(
        &mut self,
        chain: &Chain,
        queue: &QueueIo,
        now: Instant,
    ) -> Result<Option<u32>, DeviceError> {
        let memory = queue.memory();
        let too_small = |_| queue.bad_request("a buffer too small for a packet");
        let header = loop {
            match self.host.mux.next(now) {
                None => return Ok(None),
                Some(Next::Control(header)) => break header,
                Some(Next::Data(id, most)) => {
                    let mut writer = chain.writer(memory);
                    writer.skip(HEADER as u32).map_err(too_small)?;
                    if writer.left() == 0 {
                        return Err(queue.bad_request("a buffer without room for data"));
                    }
                    match self.host.fill(id, &mut writer, most, now) {
                        Filled::Data(header) => break header,
                        Filled::Nothing => {}
                    }
                }
            }
        };
        let mut writer = chain.writer(memory);
        writer.write_all(&header.bytes()).map_err(too_small)?;
        Ok(Some(HEADER as u32 + header.len))
    }

    /// Takes some of the guest's packets; returns whether there were any.
    fn receive(&mut self, queue: &mut QueueIo, now: Instant) -> Result<bool, DeviceError> {
        let mut received = false;
        for _ in 0..BATCH {
            if !self.host.mux.takes_packets() {
                break;
            }
            let Some(chain) = queue.pop()? else {
                if queue.rearm()? {
                    continue;
                }
                break;
            };
            self.take(&chain, queue, now);
            queue.push(&chain, 0)?;
            received = true;
        }
        Ok(received)
    }

    /// Takes one packet. A packet without a header is dropped.
    fn take(&mut self, chain: &Chain, queue: &QueueIo, now: Instant) {
        let mut reader = chain.reader(queue.memory());
        let mut header = [0; HEADER];
        if reader.read_exact(&mut header).is_err() {
            return;
        }
        let header = Header::parse(&header);
        match self.host.mux.packet(&header, reader.left()) {
            Action::Nothing => {}
            Action::Connect => self.host.connect(&header),
            Action::On(id, effect) => self.host.apply(id, effect, &header, &mut reader, now),
        }
    }
}

impl Device for Vsock {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Vsock
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn start(&mut self, _acked: u64) -> Result<Vec<Watched>, DeviceError> {
        Ok(vec![(self.host.as_raw_fd(), EventSet::IN, 0)])
    }

    fn kicked(&mut self, _queue: usize, io: &mut [QueueIo]) -> Result<Signals, DeviceError> {
        self.turn(io)
    }

    fn ready(
        &mut self,
        _token: Token,
        _set: EventSet,
        io: &mut [QueueIo],
    ) -> Result<Signals, DeviceError> {
        self.turn(io)
    }

    fn reset(&mut self) {
        self.host.reset();
    }
}

#[cfg(test)]
mod tests;
