//! Network device (virtio 1.2 section 5.1): the guest's frames go into a
//! [`Stack`], which is a NAT with a policy in front of the host's sockets.
//!
//! A [`Handle`] sets the network, its addresses and policy, before or after the
//! guest's driver is ready. No frame passes until both are there.

mod answer;
mod clock;
mod command;
mod forward;
#[cfg(any(test, feature = "mock"))]
pub mod mock;
mod rings;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use sandbox_netstack::capture::Capture;
use sandbox_netstack::env::Witness;
use sandbox_netstack::host::{HostNet, KernelNet};
use sandbox_netstack::listeners::Reported;
use sandbox_netstack::port::{Capabilities, Offload, Port, Received};
use sandbox_netstack::stack::{self, Arrival, Stack};
use sandbox_vm_spec::devices::DeviceKind;
use sandbox_vm_spec::network::LinkSpec;
use smoltcp::time::Instant;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use vmm_sys_util::epoll::EventSet;

use crate::mailbox::{Inbox, Mailbox, mailbox};
use crate::{Device, DeviceError, QueueIo, Signals, Token, Watched};
use clock::Clock;
pub use command::{Answer, Command, Handle, Network};
use forward::Carried;
pub use forward::{Forward, Meter, Over};
use rings::{Rings, Scratch};

/// mac, status, max_virtqueue_pairs, mtu.
const CONFIG: usize = 12;
/// Checksums and segmentation are left to the last hop that needs them, in both
/// directions.
const FEATURES: [u32; 10] = [
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_STATUS,
];

/// Frames thrown away in a turn, while there is no network.
const DISCARDED: usize = 256;
/// Commands done in a turn.
const COMMANDS: usize = 4;
/// Commands that wait: more than the control plane has clients.
const WAITING: usize = 64;

/// Flows after whose end free memory is given back: some megabytes of it.
const TRIM: u64 = 512;

/// Tokens of what is always watched.
const HOST: Token = 0;
const TIMER: Token = 1;
const WAKE: Token = 2;

/// Makes the witness of a stack from the time since 1970 at the stack's zero.
pub type Witnesses = Box<dyn FnMut(Duration) -> Box<dyn Witness + Send> + Send>;
/// Moves the calling thread to the namespace in which it opens sockets: with
/// true, the one outside. Called once.
pub type Settle = Box<dyn FnOnce(bool) -> io::Result<()> + Send>;
/// Makes of a connection to the guest's loopback a command to the forwarder.
pub type MakeForward<S> = fn(Arrival<S>, Arc<Meter>) -> Forward;

/// The host's side of the device.
pub struct NetConfig<H: HostNet> {
    /// The guest's end of the link.
    pub link: LinkSpec,
    /// The network in which the guest's flows end.
    pub host: H,
    /// Enters the namespace of the sockets, with the first configuration.
    pub settle: Settle,
    /// Makes the witness of each stack.
    pub witnesses: Witnesses,
    /// Gives free memory back to the host. Called when many flows have ended.
    pub trim: fn(),
    /// Takes the connections to the guest's loopback, which no frame can reach.
    /// It is woken without a command when one was
    /// [revoked](Meter::is_revoked).
    pub forwards: Mailbox<Forward>,
    /// Makes the commands to `forwards`.
    pub forward: MakeForward<H::Stream>,
}

/// Frames dropped before the stack, or for want of a large enough buffer of the
/// guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Drops {
    malformed: u64,
    unconfigured: u64,
    too_long: u64,
}

/// See the module.
pub struct Net<H: HostNet = KernelNet> {
    config: [u8; CONFIG],
    clock: Clock,
    inbox: Inbox<Command, Answer>,
    /// The inbox's waker was read since the last turn.
    woken: bool,
    /// None once it was called.
    settle: Option<Settle>,
    witnesses: Witnesses,
    trim: fn(),
    /// Flows that had ended when memory was last given back.
    trimmed: u64,
    forwards: Mailbox<Forward>,
    forward: MakeForward<H::Stream>,
    carried: Carried,
    /// Gets each frame of this stack and of the next.
    capture: Option<Arc<dyn Capture>>,
    /// What was agreed with the driver, once it is there.
    driver: Option<Driver>,
    network: Option<Configured>,
    state: State<H>,
    /// The number of the flow that was opened last.
    flow: u64,
    scratch: Scratch,
    drops: Drops,
}

/// What the driver takes.
#[derive(Clone, Copy)]
struct Driver {
    capabilities: Capabilities,
    mergeable: bool,
}

struct Configured {
    network: Network,
    /// The guest's last report.
    listeners: Vec<Reported>,
}

/// There is a stack as long as there are driver and network.
enum State<H: HostNet> {
    Down(H),
    Up(Box<Stack<H>>),
    /// Between two states.
    Changing,
}

impl<H: HostNet> Net<H> {
    /// A device without a network, and the handle that configures it.
    pub fn new(config: NetConfig<H>) -> io::Result<(Self, Handle)> {
        let (commands, inbox) = mailbox(WAITING)?;
        let clock = Clock::new()?;
        let handle = Handle { commands, epoch: clock.epoch() };
        let net = Self {
            config: config_space(&config.link),
            clock,
            inbox,
            woken: false,
            settle: Some(config.settle),
            witnesses: config.witnesses,
            trim: config.trim,
            trimmed: 0,
            forwards: config.forwards,
            forward: config.forward,
            carried: Carried::default(),
            capture: None,
            flow: 0,
            driver: None,
            network: None,
            state: State::Down(config.host),
            scratch: Scratch::default(),
            drops: Drops::default(),
        };
        Ok((net, handle))
    }

    /// The driver is ready.
    pub fn begin(&mut self, acked: u64) -> Result<(), DeviceError> {
        self.driver = Some(Driver::new(acked));
        self.rebuild(&mut Shut)
    }

    /// The driver has reset the device: ends every flow.
    pub fn end(&mut self) {
        self.driver = None;
        self.take_down(&mut Shut);
        // The timer of what is gone.
        self.clock.forget();
    }

    /// The host's network, while there are driver and network.
    #[cfg(any(test, feature = "mock"))]
    pub fn host(&mut self) -> Option<&mut H> {
        match &mut self.state {
            State::Up(stack) => Some(stack.host()),
            _ => None,
        }
    }

    /// A turn: commands, then frames and the host's sockets. Bounded; what is
    /// left wakes the device again.
    pub fn turn(&mut self, io: &mut [QueueIo]) -> Result<Signals, DeviceError> {
        let now = self.clock.now();
        let mut more = false;
        if let [rx, tx] = io {
            let mergeable = self.driver.is_some_and(|driver| driver.mergeable);
            let mut scratch = std::mem::take(&mut self.scratch);
            let mut drops = self.drops;
            let mut rings = Rings::new(rx, tx, mergeable, &mut scratch, &mut drops);
            let done = self.frames(&mut rings, now);
            let left = rings.finish();
            (self.scratch, self.drops) = (scratch, drops);
            more = done? | left?;
        } else {
            more |= self.commands(None, now)?;
        }
        if more {
            self.inbox.waker().wake();
        }
        Signals::collect(io)
    }

    fn frames(&mut self, rings: &mut Rings, now: Instant) -> Result<bool, DeviceError> {
        let mut more = self.commands(Some(rings), now)?;
        let State::Up(stack) = &mut self.state else {
            return Ok(rings.discard(DISCARDED)? | more);
        };
        let second = self.clock.second(now);
        if second {
            stack.tick(now);
            let ended = stack.ended();
            // Another stack begins to count anew.
            self.trimmed = self.trimmed.min(ended);
            if ended - self.trimmed >= TRIM {
                self.trimmed = ended;
                (self.trim)();
            }
        }
        let next = stack.run(rings, now);
        while let Some(arrival) = stack.arrival() {
            let (flow, meter) = (arrival.flow, Arc::new(Meter::new(self.inbox.waker().clone())));
            self.carried.add(flow, meter.clone());
            if self.forwards.try_send((self.forward)(arrival, meter.clone())).is_err() {
                meter.over(Over::Failed);
            }
        }
        if (second || self.woken) && self.carried.tell(stack, rings, now) {
            self.forwards.waker().wake();
        }
        self.woken = false;
        more |= next.is_some_and(|next| next <= now);
        if !more {
            self.clock.wake_at(next).map_err(host("cannot set a timer"))?;
        }
        Ok(more)
    }

    /// Does what was asked; whether there may be more of it.
    fn commands(
        &mut self,
        mut rings: Option<&mut Rings>,
        now: Instant,
    ) -> Result<bool, DeviceError> {
        for _ in 0..COMMANDS {
            let Some(message) = self.inbox.take() else { return Ok(false) };
            let (command, reply) = message.split();
            reply(self.perform(command, rings.as_deref_mut(), now)?);
        }
        Ok(true)
    }

    /// A stack for the network and the driver as they are now, if there are
    /// both. What was open ends.
    fn rebuild(&mut self, port: &mut dyn Port) -> Result<(), DeviceError> {
        self.take_down(port);
        let (Some(driver), Some(configured)) = (&self.driver, &self.network) else {
            return Ok(());
        };
        let Configured { network, listeners } = configured;
        let seed = seed().map_err(host("cannot get random numbers"))?;
        let capabilities = driver.capabilities;
        let config = stack::Config { capabilities, seed, ..network.config.clone() };
        let State::Down(host) = std::mem::replace(&mut self.state, State::Changing) else {
            return Ok(());
        };
        let witness = (self.witnesses)(self.clock.epoch());
        let now = self.clock.now();
        let mut stack = Stack::new(config, host, network.policy.clone(), witness, now);
        stack.number_from(self.flow);
        stack.capture(self.capture.clone());
        if !listeners.is_empty() {
            stack.report(&mut Shut, listeners, now);
        }
        self.state = State::Up(Box::new(stack));
        Ok(())
    }

    fn take_down(&mut self, port: &mut dyn Port) {
        self.state = match std::mem::replace(&mut self.state, State::Changing) {
            State::Up(mut stack) => {
                stack.end(port, self.clock.now());
                let (host, flow) = stack.into_host();
                self.flow = flow;
                State::Down(host)
            }
            other => other,
        };
        if self.carried.revoke() {
            self.forwards.waker().wake();
        }
    }

    fn woken(&mut self, token: Token) {
        match token {
            WAKE => {
                self.woken = true;
                self.inbox.waker().clear();
            }
            TIMER => self.clock.rang(),
            _ => {}
        }
    }
}

impl Driver {
    fn new(acked: u64) -> Self {
        let has = |bit: u32| acked & (1 << bit) != 0;
        let checksum = has(VIRTIO_NET_F_GUEST_CSUM);
        let mergeable = has(VIRTIO_NET_F_MRG_RXBUF);
        // Without mergeable buffers each of them would have to be 64 KiB long.
        let segments =
            checksum && mergeable && has(VIRTIO_NET_F_GUEST_TSO4) && has(VIRTIO_NET_F_GUEST_TSO6);
        Self { capabilities: Capabilities { checksum, segments }, mergeable }
    }
}

/// A link that takes nothing yet.
struct Shut;

impl Port for Shut {
    fn receive(&mut self, _buffer: &mut [u8]) -> Option<Received> {
        None
    }

    fn room(&mut self, _length: usize) -> bool {
        false
    }

    fn transmit(&mut self, _frame: &[u8], _offload: Offload) -> bool {
        false
    }

    fn end_batch(&mut self) {}
}

fn config_space(link: &LinkSpec) -> [u8; CONFIG] {
    let mut config = [0; CONFIG];
    config[..6].copy_from_slice(&link.mac);
    config[6..8].copy_from_slice(&(VIRTIO_NET_S_LINK_UP as u16).to_le_bytes());
    config[8..10].copy_from_slice(&1u16.to_le_bytes());
    config[10..].copy_from_slice(&link.mtu.to_le_bytes());
    config
}

fn host(what: &'static str) -> impl FnOnce(io::Error) -> DeviceError {
    move |source| DeviceError::Host { what, source }
}

fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    crate::rng::random(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

impl Device for Net<KernelNet> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Net
    }

    fn features(&self) -> u64 {
        FEATURES.iter().fold(0, |features, bit| features | 1 << bit)
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn start(&mut self, acked: u64) -> Result<Vec<Watched>, DeviceError> {
        self.begin(acked)?;
        Ok(Vec::new())
    }

    fn standing(&self) -> Vec<Watched> {
        let host = match &self.state {
            State::Down(host) => host.fd(),
            State::Up(stack) => stack.fd(),
            State::Changing => None,
        };
        let own = [(self.clock.as_raw_fd(), TIMER), (self.inbox.waker().as_raw_fd(), WAKE)];
        let all = host.map(|fd| (fd.as_raw_fd(), HOST)).into_iter().chain(own);
        all.map(|(fd, token)| (fd, EventSet::IN, token)).collect()
    }

    fn kicked(&mut self, _queue: usize, io: &mut [QueueIo]) -> Result<Signals, DeviceError> {
        self.turn(io)
    }

    fn ready(
        &mut self,
        token: Token,
        _set: EventSet,
        io: &mut [QueueIo],
    ) -> Result<Signals, DeviceError> {
        self.woken(token);
        self.turn(io)
    }

    fn reset(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
