#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandbox_devices::Rng;
use sandbox_devices::mock::{Driver, MEMORY, Part};
use vhost::vhost_user::message::VhostUserConfigFlags;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vhost_user_backend::VringT;
use vm_memory::{FileOffset, GuestAddress, GuestMemory, GuestMemoryRegion, MemoryRegionAddress};
use vmm_sys_util::eventfd::EventFd;

use super::*;

const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << 30;
const SIZE: u16 = 16;
/// Long enough for a loaded machine; nothing waits for it that goes well.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An engine with one device, whose driver is the mock.
struct Engine {
    frontend: Frontend,
    backend: Backend,
    driver: Driver,
    kick: EventFd,
    call: EventFd,
}

impl Engine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let socket = UnixStream::connect(&path).unwrap();
        let backend = Backend::serve(Box::new(Rng::new()), listener.into(), true).unwrap();
        let frontend = Frontend::from_stream(socket, 1);
        let mut engine = Self {
            frontend,
            backend,
            driver: Driver::over(shared_memory(), &[SIZE]),
            kick: EventFd::new(0).unwrap(),
            call: EventFd::new(0).unwrap(),
        };
        engine.handshake();
        engine
    }

    fn handshake(&mut self) {
        self.frontend.set_owner().unwrap();
        assert_eq!(self.frontend.get_features().unwrap() & FEATURES, FEATURES);
        let protocol = self.frontend.get_protocol_features().unwrap();
        self.frontend.set_protocol_features(protocol).unwrap();
        let region = self.driver.memory.iter().next().unwrap();
        let region = VhostUserMemoryRegionInfo::from_guest_region(region).unwrap();
        self.frontend.set_mem_table(&[region]).unwrap();
    }

    /// What an engine does when the driver has set the device up.
    fn start(&mut self) {
        self.frontend.set_features(FEATURES).unwrap();
        let (desc_table_addr, avail_ring_addr) =
            (self.host(self.driver.descriptors(0)), self.host(self.driver.available_ring(0)));
        let used_ring_addr = self.host(self.driver.used_ring(0));
        let addresses = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr,
            used_ring_addr,
            avail_ring_addr,
            log_addr: None,
        };
        self.frontend.set_vring_num(0, SIZE).unwrap();
        self.frontend.set_vring_addr(0, &addresses).unwrap();
        self.frontend.set_vring_base(0, 0).unwrap();
        self.frontend.set_vring_call(0, &self.call).unwrap();
        self.frontend.set_vring_kick(0, &self.kick).unwrap();
        self.frontend.set_vring_enable(0, true).unwrap();
    }

    /// What an engine does when the driver resets the device; the driver
    /// begins with new rings.
    fn reset(&mut self) {
        self.frontend.get_vring_base(0).unwrap();
        self.frontend.reset_device().unwrap();
        self.driver = Driver::over(self.driver.memory.clone(), &[SIZE]);
        let rings = vec![0; MEMORY / 2];
        self.driver.write(0, &rings);
    }

    fn host(&self, addr: u64) -> u64 {
        self.driver.memory.get_host_address(GuestAddress(addr)).unwrap() as u64
    }

    fn ask(&mut self, addr: u64, len: u32) {
        self.driver.chain(0, &[Part { addr, len, write: true }]);
        self.kick.write(1).unwrap();
    }

    /// Waits for an interrupt; returns whether one came.
    fn interrupted(&self, timeout: Duration) -> bool {
        // SAFETY: open as long as `self`.
        let call = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.call.as_raw_fd()) };
        let mut fds = [PollFd::new(call, PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap();
        let came = poll(&mut fds, timeout).unwrap() > 0;
        if came {
            self.call.read().unwrap();
        }
        came
    }
}

fn shared_memory() -> Memory {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MEMORY as u64).unwrap();
    let range = (GuestAddress(0), MEMORY, Some(FileOffset::new(file, 0)));
    let memory = Memory::from_ranges_with_files([range]).unwrap();
    let region = memory.iter().next().unwrap();
    assert!(region.get_host_address(MemoryRegionAddress(0)).is_ok());
    memory
}

#[test]
fn a_device_is_driven_over_vhost_user() {
    let mut engine = Engine::new();
    engine.start();
    let addr = engine.driver.buffer(64);
    engine.ask(addr, 64);
    assert!(engine.interrupted(TIMEOUT));
    assert_eq!(engine.driver.returned(0), [(0, 64)]);
    assert!(engine.driver.read(addr, 64).iter().any(|byte| *byte != 0));
}

#[test]
fn a_bad_ring_silences_the_device_until_its_driver_resets_it() {
    let mut engine = Engine::new();
    engine.start();
    engine.driver.describe(0, 8, Part { addr: 0, len: 1, write: true }, 1, 8);
    engine.driver.offer(0, 8);
    engine.kick.write(1).unwrap();
    // A message that is answered comes after the kick is handled only by
    // chance; that the device stays silent is shown by a good request.
    engine.ask(0x20_0000, 8);
    assert!(!engine.interrupted(Duration::from_millis(200)));
    assert_eq!(engine.driver.returned(0), []);
    engine.reset();
    engine.start();
    engine.ask(0x20_0000, 8);
    assert!(engine.interrupted(TIMEOUT));
    assert_eq!(engine.driver.returned(0), [(0, 8)]);
}

#[test]
fn a_reset_device_starts_over() {
    let mut engine = Engine::new();
    for _ in 0..3 {
        engine.start();
        engine.ask(0x20_0000, 8);
        assert!(engine.interrupted(TIMEOUT));
        assert_eq!(engine.driver.returned(0), [(0, 8)]);
        engine.reset();
        engine.kick.write(1).unwrap();
        assert!(!engine.interrupted(Duration::from_millis(50)), "it is stopped");
        engine.kick.read().unwrap();
    }
}

#[test]
fn an_empty_config_space_reads_as_zeros_and_is_not_written() {
    let mut engine = Engine::new();
    let none = VhostUserConfigFlags::empty();
    let (_, config) = engine.frontend.get_config(0, 8, none, &[0; 8]).unwrap();
    assert_eq!(config, [0; 8]);
}

#[test]
fn the_end_of_the_engine_is_no_error() {
    let Engine { frontend, mut backend, .. } = Engine::new();
    drop(frontend);
    backend.wait().unwrap();
}

/// The longest chain of a frame, through the adapter and back.
#[test]
fn a_kick_allocates_nothing() {
    let mut driver = Driver::over(shared_memory(), &[64]);
    let memory = GuestMemoryAtomic::new(driver.memory.clone());
    let adapter = Adapter::new(Box::new(Rng::new()), memory.clone(), false);
    let ring = Ring::new(memory, 64).unwrap();
    ring.set_queue_size(64);
    let (used, available) = (driver.used_ring(0), driver.available_ring(0));
    ring.set_queue_info(driver.descriptors(0), available, used).unwrap();
    ring.set_queue_ready(true);
    let mut kick = |parts: u64| {
        let part = |number| Part { addr: 0x20_0000 + number * 8, len: 8, write: true };
        driver.chain(0, &(0..parts).map(part).collect::<Vec<_>>());
        let rings = [ring.clone()];
        let kicked = || adapter.handle_event(0, EventSet::IN, &rings, 0).unwrap();
        let counted = allocation_counter::measure(kicked).count_total;
        assert_eq!(driver.returned(0).len(), 1);
        counted
    };
    // The device starts with the first.
    kick(1);
    assert_eq!((kick(1), kick(20)), (0, 0));
    assert!(kick(21) > 0);
}
