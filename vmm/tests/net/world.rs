//! A namespace with a server, and an `io` process in it.

use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sched::{CloneFlags, setns, unshare};
use sandbox_vm_spec::devices::DeviceKind;
use sandbox_vm_spec::launch::{DeviceSocket, IoLaunch, Launch, Report};
use sandbox_vm_spec::network::{
    LinkSpec, Network, NetworkLaunch, PolicySource, Reply, Request, receive, send,
};

use crate::engine::Engine;
use crate::guest::{GATEWAY, GUEST, GUEST_MAC, GUEST4, MTU, SERVER};
use crate::is_refused;
use crate::process::{Process, vhost_socket};

/// See the module.
pub struct World {
    pub io: Process,
    namespace: File,
    outside: bool,
    engine: Option<OwnedFd>,
    folder: tempfile::TempDir,
    client: Option<UnixStream>,
    server: TcpListener,
    _others: Vec<OwnedFd>,
}

impl World {
    /// A namespace in which groups `pings` may ping.
    pub fn new(pings: &'static str) -> Self {
        Self::start(namespace(pings), None)
    }

    /// The server is in another namespace than the process is started in.
    pub fn outside(pings: &'static str) -> Self {
        Self::start(namespace(pings), Some(namespace(pings)))
    }

    fn start(namespace: File, outside: Option<File>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let ((rng, rng_engine), (vsock, vsock_engine)) = (vhost_socket(), vhost_socket());
        let (net, net_engine) = vhost_socket();
        fs::create_dir(path("sockets")).unwrap();
        let audit = |name| OpenOptions::new().append(true).create(true).open(path(name)).unwrap();
        let mut fds: Vec<OwnedFd> = vec![
            rng.into(),
            vsock.into(),
            UnixListener::bind(path("sockets/vsock.sock")).unwrap().into(),
            net.into(),
            namespace.as_fd().try_clone_to_owned().unwrap(),
            UnixListener::bind(path("network.sock")).unwrap().into(),
            audit("audit-0").into(),
            audit("audit-1").into(),
        ];
        fds.extend(outside.as_ref().map(|outside| outside.as_fd().try_clone_to_owned().unwrap()));
        let launch = Launch::Io(IoLaunch {
            sandbox: String::new(),
            devices: [DeviceKind::Rng, DeviceKind::Vsock, DeviceKind::Net]
                .into_iter()
                .zip([10, 11, 13])
                .map(|(kind, socket)| DeviceSocket { kind, socket })
                .collect(),
            cid: 3,
            sockets: path("sockets"),
            listener: 12,
            guest_ports: vec![],
            disks: None,
            network: Some(NetworkLaunch {
                namespace: 14,
                outside: outside.as_ref().map(|_| 18),
                listener: 15,
                audit: [16, 17],
                audit_max: 1 << 20,
                pod: "test".into(),
                link: LinkSpec { mac: GUEST_MAC, mtu: MTU },
                forward_port: 1026,
            }),
        });
        let mut io = Process::start("io", fds, &launch);
        assert_eq!(io.news(), Report::Ready);
        let server = within(outside.as_ref().unwrap_or(&namespace), || {
            TcpListener::bind((SERVER, 80)).unwrap()
        });
        Self {
            io,
            namespace,
            outside: outside.is_some(),
            engine: Some(net_engine),
            folder,
            client: None,
            server,
            _others: vec![rng_engine, vsock_engine],
        }
    }

    /// As it is named in `/proc`.
    pub fn namespace(&self) -> PathBuf {
        within(&self.namespace, || fs::read_link("/proc/thread-self/ns/net").unwrap())
    }

    /// The first file of the audit.
    pub fn audit(&self) -> PathBuf {
        self.folder.path().join("audit-0")
    }

    /// The guest.
    pub fn engine(&mut self) -> Engine {
        Engine::new(self.engine.take().unwrap())
    }

    /// A client of the network's socket.
    pub fn client(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("network.sock")).unwrap()
    }

    /// Asks over one connection after the other.
    pub fn ask(&mut self, request: &Request) -> Reply {
        let mut client = self.client.take().unwrap_or_else(|| self.client());
        // A server that refuses may have hung up before it was asked.
        let _ = send(&mut client, request);
        let reply = receive(&mut client, 1 << 20).unwrap().unwrap();
        if !matches!(reply, Reply::Failed { .. }) {
            self.client = Some(client);
        }
        reply
    }

    /// Tells the process of the network.
    pub fn configure(&mut self) {
        let network = self.network();
        assert_eq!(self.ask(&Request::Configure(Box::new(network))), Reply::Done);
    }

    /// What the process is told.
    pub fn network(&self) -> Network {
        Network {
            guest: vec![GUEST],
            bound: vec![GUEST],
            outside: self.outside,
            mtu: MTU,
            gateway4: GATEWAY,
            gateway6: "fe80::1".parse().unwrap(),
            resolvers: vec![],
            host: vec![],
            cluster: vec![],
            node: PolicySource::Unset,
            pod: PolicySource::Unset,
        }
    }

    /// The next connection to the server.
    pub fn serve(&mut self) -> TcpStream {
        self.server.accept().unwrap().0
    }

    /// A client in the namespace, that connects from the server's address.
    pub fn dial(&self, to: Ipv4Addr, port: u16) -> TcpStream {
        let target = SocketAddr::new(IpAddr::V4(to), port);
        within(&self.namespace, move || TcpStream::connect(target).unwrap())
    }

    /// Nobody listens there.
    pub fn refuses(&self, to: Ipv4Addr, port: u16) {
        let target = SocketAddr::new(IpAddr::V4(to), port);
        assert!(is_refused(within(&self.namespace, move || TcpStream::connect(target))));
    }
}

/// What comes next of a capture.
pub fn captured(client: &mut UnixStream) -> Vec<u8> {
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let reply = receive(client, 1 << 20).unwrap();
    let Some(Reply::Captured { pcapng, lost: 0 }) = reply else { panic!("{reply:?}") };
    BASE64_STANDARD.decode(pcapng).unwrap()
}

fn namespace(pings: &'static str) -> File {
    let make = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for line in [
            "link set lo up".to_owned(),
            format!("address add {SERVER}/32 dev lo"),
            format!("address add {GUEST4}/32 dev lo"),
            // Who dials the guest comes from the server's address.
            format!("route replace local {GUEST4} dev lo table local src {SERVER}"),
        ] {
            let status = Command::new("ip").args(line.split(' ')).status().unwrap();
            assert!(status.success(), "ip {line}");
        }
        fs::write("/proc/sys/net/ipv4/ping_group_range", pings).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    thread::spawn(make).join().unwrap()
}

/// Runs `act` in a thread that ends in the namespace.
fn within<T: Send + 'static>(namespace: &File, act: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = namespace.try_clone().unwrap();
    let run = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        act()
    };
    thread::spawn(run).join().unwrap()
}
