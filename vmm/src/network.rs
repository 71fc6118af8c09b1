//! The pod's network in the `io` process: the net device, its host side of
//! sockets in the pod's namespace, its control plane and its audit.

mod audit;
mod capture;
mod control;
mod forward;
mod rows;
mod server;
mod settings;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;

use caps::Capability;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sandbox_devices::mailbox::Mailbox;
use sandbox_devices::net::{Forward, Handle, Net, NetConfig, Settle};
use sandbox_netstack::host::KernelNet;
use sandbox_netstack::watch::Watch;
use sandbox_vm_spec::network::{LinkSpec, NetworkLaunch};

use crate::backend::{Backend, BackendError};
use crate::control::{ControlError, inherited};
use crate::jail::{JailError, Network, keep_capabilities};
use audit::AuditQueue;
pub use audit::Writer;
use control::Control;
use forward::Carrier;

/// Sockets of flows and listeners: what the stack has at most.
pub const MAX_FILES: u64 = 8192;
/// Rings of connections, packets in parts, policies that are being read, and
/// as much again.
pub const MAX_MEMORY: u64 = 512 << 20;

/// The vsock device's socket, in the root of the jail.
const VSOCK: &str = "/vsock.sock";

/// Binding a listener of the guest at a port below 1024.
const LISTENING: &[Capability] = &[Capability::CAP_NET_BIND_SERVICE];
/// And a raw socket for ICMP, where the namespace permits no other to ping.
const PINGING: &[Capability] = &[Capability::CAP_NET_BIND_SERVICE, Capability::CAP_NET_RAW];
/// And to change the namespace, until it is settled which it is.
const SETTLING: &[Capability] =
    &[Capability::CAP_NET_BIND_SERVICE, Capability::CAP_NET_RAW, Capability::CAP_SYS_ADMIN];

/// The pod's network was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim did not pass a descriptor.
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("cannot enter the pod's network namespace")]
    Namespace(#[source] io::Error),
    /// The host's side of the device cannot be made.
    #[error("cannot prepare the net device")]
    Device(#[source] io::Error),
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A right could not be given up.
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error("cannot start the thread that {0}")]
    Thread(&'static str, #[source] io::Error),
}

/// What was inherited, before the jail is entered.
pub struct Prepared {
    launch: NetworkLaunch,
    namespace: Arc<OwnedFd>,
    outside: Option<Arc<OwnedFd>>,
    listener: UnixListener,
    audit: [OwnedFd; 2],
    /// Whether the namespace permits sockets that ping and nothing else.
    pings: bool,
}

impl Prepared {
    /// Takes what the launch message names.
    pub fn take(launch: NetworkLaunch) -> Result<Self, Error> {
        let namespace = Arc::new(inherited(launch.namespace, "network namespace")?);
        let listener = inherited(launch.listener, "listener for requests to the network")?;
        let [first, second] = launch.audit;
        let audit =
            [inherited(first, "first audit file")?, inherited(second, "second audit file")?];
        let outside = launch.outside.map(|fd| inherited(fd, "network namespace outside"));
        let outside = outside.transpose()?.map(Arc::new);
        let mut pings = true;
        for namespace in [Some(&namespace), outside.as_ref()].into_iter().flatten() {
            pings &= permits_ping(namespace.clone()).map_err(Error::Namespace)?;
        }
        Ok(Self { launch, namespace, outside, listener: listener.into(), audit, pings })
    }

    /// The namespace to enter.
    pub fn namespace(&self) -> Network {
        Network::Namespace(self.namespace.clone())
    }

    /// Its capabilities until [`Self::begin`].
    pub fn capabilities(&self) -> &'static [Capability] {
        if self.outside.is_some() { SETTLING } else { self.lasting() }
    }

    fn lasting(&self) -> &'static [Capability] {
        if self.pings { LISTENING } else { PINGING }
    }

    /// Starts the device's thread, from within the jail: the only one that
    /// keeps the right to change its namespace, until that is settled. So it
    /// comes before every other thread. No container runs by then.
    pub fn begin(self) -> Result<Begun, Error> {
        sandbox_mapped::map_large_blocks();
        let lasting = self.lasting();
        let settle = settle(self.outside, lasting);
        let NetworkLaunch { link, pod, audit_max, forward_port, .. } = self.launch;
        let queue = AuditQueue::default();
        let forwards = forward::open(VSOCK.into(), forward_port);
        let (forwards, carrier) = forwards.map_err(Error::Device)?;
        let device = device(link, settle, pod.clone(), queue.clone(), forwards);
        let (device, handle) = device.map_err(Error::Device)?;
        let backend = Backend::new(Box::new(device), true)?;
        keep_capabilities(lasting)?;
        let files = audit::Files::new(self.audit.map(Into::into), audit_max);
        let audit = Writer::start(&queue, files).map_err(thread("writes the audit"))?;
        let control = Control::new(link, handle);
        Ok(Begun { backend, carrier, listener: self.listener, control, pod, audit })
    }
}

/// A device whose flows end in the network of the thread that serves it.
fn device(
    link: LinkSpec,
    settle: Settle,
    pod: String,
    audit: AuditQueue,
    forwards: Mailbox<Forward>,
) -> io::Result<(Net, Handle)> {
    Net::new(NetConfig {
        link,
        host: KernelNet::new()?,
        settle,
        trim: sandbox_mapped::trim,
        witnesses: Box::new(move |epoch| {
            Box::new(Watch::new(&pod, epoch, Box::new(audit.clone())))
        }),
        forwards,
        forward: |arrival, meter| Forward {
            stream: arrival.stream.into_fd(),
            target: arrival.local,
            meter,
        },
    })
}

fn thread(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Thread(what, error)
}

/// A network whose device has its thread.
pub struct Begun {
    backend: Backend,
    carrier: Carrier,
    listener: UnixListener,
    control: Control,
    pod: String,
    audit: Writer,
}

impl Begun {
    /// Accepts the engine's connection, which waits in `device`, and serves it
    /// and the clients of the control plane. The writer of the audit is to be
    /// finished when the engine has gone away.
    pub fn serve(mut self, device: OwnedFd) -> Result<(Backend, Writer), Error> {
        self.carrier.start().map_err(thread("carries connections on"))?;
        self.backend.accept(device)?;
        let answers = server::start(self.listener, self.control, self.pod);
        answers.map_err(thread("answers about the network"))?;
        Ok((self.backend, self.audit))
    }
}

/// Moves the calling thread, the device's, to `outside` if the pod's network is
/// there, and drops the capability to do so again.
fn settle(outside: Option<Arc<OwnedFd>>, lasting: &'static [Capability]) -> Settle {
    Box::new(move |to_outside| {
        match (to_outside, &outside) {
            (false, None) => return Ok(()),
            (false, Some(_)) => {}
            (true, Some(outside)) => enter(outside)?,
            (true, None) => {
                return Err(io::Error::other(
                    "the launch message has no namespace outside the pod's",
                ));
            }
        }
        keep_capabilities(lasting).map_err(io::Error::other)
    })
}

/// Whether a process without capabilities may ping in `namespace`, by its
/// `net.ipv4.ping_group_range`. Looked up by a thread that ends in there.
fn permits_ping(namespace: Arc<OwnedFd>) -> io::Result<bool> {
    let look = move || -> io::Result<bool> {
        enter(&namespace)?;
        let (kind, flags) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
        Ok(socket_with(AddressFamily::INET, kind, flags, Some(ipproto::ICMP)).is_ok())
    };
    let thread = thread::Builder::new().spawn(look)?;
    thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// Moves the calling thread into a network namespace.
fn enter(namespace: &OwnedFd) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}
