//! The vhost-user adapter: carries the queues of any [`Device`] between it
//! and the engine that is the frontend.

mod ring;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sandbox_devices::{Device, DeviceError, Memory, QueueIo, Signals, Token, Watched};
use sandbox_vm_spec::devices::MAX_QUEUE_SIZE;
use sandbox_vm_spec::failure::chain;
use smallvec::SmallVec;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::bitmap::BitmapMmapRegion;
use vhost_user_backend::{
    Error as DaemonError, VhostUserBackend, VhostUserDaemon, VringEpollHandler, VringState,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::QueueT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use ring::Ring;

/// Largest config space that is answered for: what a GET_CONFIG message may
/// ask for in the vhost-user protocol.
const MAX_CONFIG: u32 = 256;

/// Queues of a device whose kicks are handled without an allocation.
const QUEUES: usize = 4;

/// A device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The daemon or its threads could not be made.
    #[error("cannot serve the {name} device: {reason}")]
    Daemon { name: &'static str, reason: String },
    /// The connection broke otherwise than by the engine's end.
    #[error("the engine's connection to the {name} device broke: {reason}")]
    Connection { name: &'static str, reason: String },
}

/// A device and the threads that serve it.
pub struct Backend {
    name: &'static str,
    daemon: VhostUserDaemon<Arc<Adapter>>,
}

impl Backend {
    /// Accepts the engine's connection, which waits in `listener`, and serves
    /// `device` on it. The engine can read the config space if `config` is set.
    pub fn serve(
        device: Box<dyn Device>,
        listener: OwnedFd,
        config: bool,
    ) -> Result<Self, BackendError> {
        let mut backend = Self::new(device, config)?;
        backend.accept(listener)?;
        Ok(backend)
    }

    /// With the device's thread, and no engine yet.
    pub fn new(device: Box<dyn Device>, config: bool) -> Result<Self, BackendError> {
        let name = device.kind().spec().name;
        let failed =
            |error: &dyn ToString| BackendError::Daemon { name, reason: error.to_string() };
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let adapter = Arc::new(Adapter::new(device, memory.clone(), config));
        let daemon = VhostUserDaemon::new(name.into(), adapter.clone(), memory);
        let daemon = daemon.map_err(|error| failed(&error))?;
        if let Some(epoll) = daemon.get_epoll_handlers().into_iter().next() {
            let _ = adapter.epoll.set(epoll);
        }
        let standing = adapter.lock().device.standing();
        adapter.watch(&standing).map_err(|error| failed(&error))?;
        Ok(Self { name, daemon })
    }

    /// Accepts the engine's connection, which waits in `listener`, and serves
    /// it.
    pub fn accept(&mut self, listener: OwnedFd) -> Result<(), BackendError> {
        let name = self.name;
        let mut listener = Listener::from(UnixListener::from(listener));
        let failed = |error: DaemonError| BackendError::Daemon { name, reason: error.to_string() };
        self.daemon.start(&mut listener).map_err(failed)
    }

    /// Returns when the engine has exited.
    pub fn wait(&mut self) -> Result<(), BackendError> {
        match self.daemon.wait() {
            Ok(())
            | Err(DaemonError::HandleRequest(
                VhostUserError::Disconnected | VhostUserError::PartialMessage,
            )) => Ok(()),
            Err(error) => {
                let reason = error.to_string();
                Err(BackendError::Connection { name: self.name, reason })
            }
        }
    }
}

pub struct Adapter {
    name: &'static str,
    device: Mutex<Guarded>,
    memory: GuestMemoryAtomic<Memory>,
    epoll: OnceLock<Arc<VringEpollHandler<Arc<Adapter>>>>,
    features: u64,
    queues: usize,
    config: Option<Vec<u8>>,
}

/// The device and how far its driver is.
struct Guarded {
    device: Box<dyn Device>,
    acked: u64,
    phase: Phase,
    watched: Vec<Watched>,
}

/// A device starts with the first kick after its features were acked, when
/// its queues are set up, and gets no call after an error until the driver
/// acks features again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Stopped,
    Running,
    NeedsReset,
}

/// What woke the device's thread.
#[derive(Clone, Copy)]
enum Event {
    Kick(usize),
    Ready(Token, EventSet),
}

impl Adapter {
    fn new(device: Box<dyn Device>, memory: GuestMemoryAtomic<Memory>, config: bool) -> Self {
        let carried = 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let spec = device.kind().spec();
        Self {
            name: spec.name,
            memory,
            epoll: OnceLock::new(),
            features: device.features() | carried,
            queues: spec.queue_sizes.len(),
            config: config.then(|| device.config().to_vec()),
            device: Mutex::new(Guarded {
                device,
                acked: 0,
                phase: Phase::Stopped,
                watched: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, guarded: &mut Guarded) -> Result<(), DeviceError> {
        guarded.watched = guarded.device.start(guarded.acked)?;
        let host = |source| DeviceError::Host { what: "cannot watch a descriptor", source };
        self.watch(&guarded.watched).map_err(host)?;
        guarded.phase = Phase::Running;
        Ok(())
    }

    fn watch(&self, fds: &[Watched]) -> io::Result<()> {
        fds.iter().try_for_each(|(fd, set, token)| {
            self.epoll()?.register_listener(*fd, *set, self.data(*token))
        })
    }

    /// Stops watching the device's descriptors, which it may close.
    fn halt(&self, guarded: &mut Guarded, phase: Phase) {
        guarded.phase = phase;
        for (fd, set, token) in std::mem::take(&mut guarded.watched) {
            if let Ok(epoll) = self.epoll() {
                // Not registered if start failed half way.
                let _ = epoll.unregister_listener(fd, set, self.data(token));
            }
        }
        // Host programs that are connected see the end of a broken device too.
        guarded.device.reset();
    }

    fn epoll(&self) -> io::Result<&VringEpollHandler<Arc<Adapter>>> {
        self.epoll.get().map(Arc::as_ref).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Number of an fd in the epoll set, after those of the queues and of the
    /// exit event.
    fn data(&self, token: Token) -> u64 {
        (self.queues + 1) as u64 + u64::from(token)
    }

    fn event(&self, data: u16, set: EventSet) -> Option<Event> {
        let (data, queues) = (usize::from(data), self.queues);
        if data < queues {
            return Some(Event::Kick(data));
        }
        let token = data.checked_sub(queues + 1)?;
        Some(Event::Ready(Token::try_from(token).ok()?, set))
    }

    fn handle(
        &self,
        guarded: &mut Guarded,
        event: Event,
        rings: &[Ring],
    ) -> Result<(), DeviceError> {
        if guarded.phase == Phase::Stopped && matches!(event, Event::Kick(_)) {
            self.start(guarded)?;
        }
        if guarded.phase != Phase::Running {
            return without_driver(guarded.device.as_mut(), event);
        }
        let mut states: SmallVec<[_; QUEUES]> = rings.iter().map(Ring::lock).collect();
        if states.iter().all(|state| !state.get_queue().ready()) {
            drop(states);
            self.halt(guarded, Phase::Stopped);
            return without_driver(guarded.device.as_mut(), event);
        }
        let signals = self.call(guarded.device.as_mut(), event, &mut states)?;
        for (index, state) in states.iter().enumerate().filter(|(i, _)| signals.has(*i)) {
            state.signal_used_queue().map_err(|source| {
                tracing::debug!("{}: cannot signal queue {index}", self.name);
                DeviceError::Host { what: "cannot interrupt the guest", source }
            })?;
        }
        Ok(())
    }

    fn call(
        &self,
        device: &mut dyn Device,
        event: Event,
        states: &mut [MutexGuard<'_, VringState<GuestMemoryAtomic<Memory>>>],
    ) -> Result<Signals, DeviceError> {
        let memory = self.memory.memory();
        let queues = states.iter_mut().enumerate();
        let mut io: SmallVec<[QueueIo; QUEUES]> = queues
            .map(|(index, state)| QueueIo::new(index, state.get_queue_mut(), &memory))
            .collect();
        match event {
            Event::Kick(queue) => device.kicked(queue, &mut io),
            Event::Ready(token, set) => device.ready(token, set, &mut io),
        }
    }
}

/// Handles an event while no driver owns the queues.
fn without_driver(device: &mut dyn Device, event: Event) -> Result<(), DeviceError> {
    match event {
        Event::Kick(_) => Ok(()),
        Event::Ready(token, set) => device.ready(token, set, &mut []).map(drop),
    }
}

impl VhostUserBackend for Adapter {
    type Bitmap = BitmapMmapRegion;
    type Vring = Ring;

    fn num_queues(&self) -> usize {
        self.queues
    }

    fn max_queue_size(&self) -> usize {
        MAX_QUEUE_SIZE.into()
    }

    fn features(&self) -> u64 {
        self.features
    }

    /// The driver starts over.
    fn acked_features(&self, features: u64) {
        let mut guarded = self.lock();
        self.halt(&mut guarded, Phase::Stopped);
        guarded.acked = features;
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        let mut features = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::RESET_DEVICE;
        features.set(VhostUserProtocolFeatures::CONFIG, self.config.is_some());
        features
    }

    fn reset_device(&self) {
        self.halt(&mut self.lock(), Phase::Stopped);
    }

    /// Queues take it from the acknowledged features.
    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = self.config.as_deref().unwrap_or_default();
        let from = config.get(offset as usize..).unwrap_or_default();
        let mut bytes = from[..from.len().min(size as usize)].to_vec();
        // Frontends may ask for a larger structure than the device has.
        bytes.resize(size.min(MAX_CONFIG) as usize, 0);
        bytes
    }

    fn set_config(&self, _offset: u32, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    /// Each call of the device loads the current map.
    fn update_memory(&self, _memory: GuestMemoryAtomic<Memory>) -> io::Result<()> {
        Ok(())
    }

    /// Ends the thread with the connection.
    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    /// Never fails: an error would end the device's thread for good.
    fn handle_event(
        &self,
        data: u16,
        set: EventSet,
        rings: &[Ring],
        _thread: usize,
    ) -> io::Result<()> {
        let Some(event) = self.event(data, set) else { return Ok(()) };
        let mut guarded = self.lock();
        if let Err(error) = self.handle(&mut guarded, event, rings) {
            tracing::error!("{}: device needs a reset: {}", self.name, chain(&error));
            self.halt(&mut guarded, Phase::NeedsReset);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
