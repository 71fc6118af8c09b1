//! The engine and the guest's driver: a vhost-user frontend with rings of its
//! own.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox_devices::Memory;
use sandbox_devices::mock::{Driver, MEMORY, Part};
use vhost::vhost_user::message::VhostUserConfigFlags;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{FileOffset, GuestAddress, GuestMemory};
use vmm_sys_util::eventfd::EventFd;

use sandbox_devices::net::mock::guest::{GUEST_MAC, MTU};

/// VERSION_1, PROTOCOL_FEATURES, MRG_RXBUF, HOST_TSO4 and 6, GUEST_TSO4 and 6,
/// GUEST_CSUM, CSUM.
const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 15 | 0b11 << 11 | 0b11 << 7 | 0b11;
/// To the guest, from it.
const RX: usize = 0;
const TX: usize = 1;
const SIZE: u16 = 256;
/// Receive buffers and their size.
const BUFFERS: usize = 128;
const BUFFER: u32 = 4096;
/// Long enough for a loaded machine; nothing waits for it that goes well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub struct Engine {
    frontend: Frontend,
    driver: Driver,
    kicks: [EventFd; 2],
    calls: [EventFd; 2],
    buffers: u64,
    /// Frames that were returned and not looked at yet.
    came: std::collections::VecDeque<([u8; 12], Vec<u8>)>,
}

impl Engine {
    /// A guest whose driver is up, at the other end of a backend's socket.
    pub fn new(socket: OwnedFd) -> Self {
        let eventfd = || EventFd::new(0).unwrap();
        let mut driver = Driver::over(shared_memory(), &[SIZE; 2]);
        let buffers = driver.buffer(BUFFERS as u32 * BUFFER);
        let mut engine = Self {
            frontend: Frontend::from_stream(UnixStream::from(socket), 2),
            driver,
            kicks: [eventfd(), eventfd()],
            calls: [eventfd(), eventfd()],
            buffers,
            came: Default::default(),
        };
        engine.greet();
        (0..2).for_each(|queue| engine.start(queue));
        for number in 0..BUFFERS as u64 {
            let addr = buffers + number * u64::from(BUFFER);
            engine.driver.chain(RX, &[Part { addr, len: BUFFER, write: true }]);
        }
        engine.kicks[RX].write(1).unwrap();
        engine
    }

    fn greet(&mut self) {
        self.frontend.set_owner().unwrap();
        assert_eq!(self.frontend.get_features().unwrap() & FEATURES, FEATURES);
        let protocol = self.frontend.get_protocol_features().unwrap();
        self.frontend.set_protocol_features(protocol).unwrap();
        let none = VhostUserConfigFlags::empty();
        let (_, config) = self.frontend.get_config(0, 12, none, &[0; 12]).unwrap();
        assert_eq!((&config[..6], &config[10..]), (&GUEST_MAC[..], &MTU.to_le_bytes()[..]));
        let region = self.driver.memory.iter().next().unwrap();
        let region = VhostUserMemoryRegionInfo::from_guest_region(region).unwrap();
        self.frontend.set_mem_table(&[region]).unwrap();
        self.frontend.set_features(FEATURES).unwrap();
    }

    fn start(&mut self, queue: usize) {
        let host = |addr| self.driver.memory.get_host_address(GuestAddress(addr)).unwrap() as u64;
        let addresses = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr: host(self.driver.descriptors(queue)),
            used_ring_addr: host(self.driver.used_ring(queue)),
            avail_ring_addr: host(self.driver.available_ring(queue)),
            log_addr: None,
        };
        self.frontend.set_vring_num(queue, SIZE).unwrap();
        self.frontend.set_vring_addr(queue, &addresses).unwrap();
        self.frontend.set_vring_base(queue, 0).unwrap();
        self.frontend.set_vring_call(queue, &self.calls[queue]).unwrap();
        self.frontend.set_vring_kick(queue, &self.kicks[queue]).unwrap();
        self.frontend.set_vring_enable(queue, true).unwrap();
    }

    /// Sends a frame.
    pub fn send(&mut self, header: [u8; 12], frame: &[u8]) {
        let bytes: Vec<u8> = header.iter().chain(frame).copied().collect();
        let addr = self.driver.bytes(&bytes);
        self.driver.chain(TX, &[Part { addr, len: bytes.len() as u32, write: false }]);
        self.kicks[TX].write(1).unwrap();
    }

    /// Waits for the next frame.
    pub fn receive(&mut self) -> ([u8; 12], Vec<u8>) {
        loop {
            self.collect();
            if let Some(frame) = self.came.pop_front() {
                return frame;
            }
            // SAFETY: open as long as `self`.
            let call = unsafe { BorrowedFd::borrow_raw(self.calls[RX].as_raw_fd()) };
            let mut fds = [PollFd::new(call, PollFlags::POLLIN)];
            let count = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
            assert!(count > 0, "no frame has come");
            self.calls[RX].read().unwrap();
        }
    }

    fn collect(&mut self) {
        let mut returned = self.driver.returned(RX).into_iter();
        while let Some((head, written)) = returned.next() {
            let at = |head: u16| self.buffers + u64::from(head) * u64::from(BUFFER);
            let mut bytes = self.driver.read(at(head), written as usize);
            let header: [u8; 12] = bytes.drain(..12).collect::<Vec<_>>().try_into().unwrap();
            for _ in 1..u16::from_le_bytes([header[10], header[11]]) {
                let (head, written) = returned.next().expect("all buffers of a frame at once");
                bytes.extend(self.driver.read(at(head), written as usize));
            }
            self.came.push_back((header, bytes));
        }
    }
}

fn shared_memory() -> Memory {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MEMORY as u64).unwrap();
    Memory::from_ranges_with_files([(GuestAddress(0), MEMORY, Some(FileOffset::new(file, 0)))])
        .unwrap()
}
