//! Networks of a test's own: pods, and the world that they reach.
//!
//! ```text
//! pod 1 10.77.1.2/24 fd77:0:0:1::2/64 ──veth──┐
//!                                           world: router, servers, DNS
//! pod 2 10.77.2.2/24 fd77:0:0:2::2/64 ──veth──┘
//! ```
//!
//! Everything is in namespaces that have no name and are held by the test's
//! process: they end with it, whatever happens.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

mod dns;
mod namespace;
mod server;

pub use dns::{Answer, Dns};
pub use namespace::Namespace;
pub use server::Server;

/// A server's addresses: every service of [`World::SERVICES`] answers there.
pub const SERVER: Both = both(Ipv4Addr::new(203, 0, 113, 1), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
/// Another server with the same services.
pub const OTHER: Both = both(Ipv4Addr::new(203, 0, 113, 2), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2]);
/// The DNS server that pods are given.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// A DNS server with the same names that they are not given.
pub const OTHER_RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 54);
/// Where a cloud would tell its secrets.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The world's router says that this host is unreachable.
pub const UNREACHABLE: Both =
    both(Ipv4Addr::new(198, 51, 100, 1), [0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 1]);
/// The world's router says that this is prohibited.
pub const PROHIBITED: Both =
    both(Ipv4Addr::new(198, 51, 100, 2), [0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 2]);
/// The world's router drops what goes here.
pub const BLACK_HOLE: Both =
    both(Ipv4Addr::new(198, 51, 100, 3), [0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 3]);
/// As [`UNREACHABLE`], by a route of the pod's own.
pub const UNREACHABLE_HERE: Both =
    both(Ipv4Addr::new(198, 51, 100, 101), [0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 0x101]);
/// As [`PROHIBITED`], by a route of the pod's own.
pub const PROHIBITED_HERE: Both =
    both(Ipv4Addr::new(198, 51, 100, 102), [0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 0x102]);

/// MTU of the pods' links: less than Ethernet's, as in an overlay network.
pub const MTU: u16 = 1450;

/// Does what the client's first line asks for, see `toolbox listen`.
pub const SCRIPT: u16 = 7000;
/// Closes at once.
pub const CLOSES: u16 = 7001;
/// Resets after a byte.
pub const RESETS: u16 = 7002;
/// Nobody listens here.
pub const REFUSED: u16 = 7003;
/// Datagrams come back; see `toolbox udp-echo`.
pub const ECHO: u16 = 7004;
/// Says `hello`, as do 80 and 443.
pub const HELLO: u16 = 8443;

/// An address of each family.
#[derive(Clone, Copy, Debug)]
pub struct Both {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

const fn both(v4: Ipv4Addr, v6: [u16; 8]) -> Both {
    let [a, b, c, d, e, f, g, h] = v6;
    Both { v4, v6: Ipv6Addr::new(a, b, c, d, e, f, g, h) }
}

impl Both {
    /// Both, IPv4 first.
    pub fn each(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// A pod's side.
pub struct Pod {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its addresses.
    pub address: Both,
    /// The router's, on its link.
    pub gateway: Both,
    resolv_conf: PathBuf,
}

/// All of it.
pub struct Network {
    /// Where the servers are.
    pub world: Namespace,
    /// This machine's own addresses: the world has them too, so that only a
    /// policy keeps a pod from them.
    pub node: Vec<IpAddr>,
    /// Its DNS server, at [`RESOLVER`] and [`OTHER_RESOLVER`].
    pub dns: Dns,
    pods: Vec<Pod>,
    dir: PathBuf,
    servers: Mutex<Vec<Server>>,
}

impl Network {
    /// Makes it; scratch files go to `dir`.
    pub fn new(dir: &Path) -> Self {
        fs::create_dir(dir).unwrap();
        let node = own_addresses();
        let world = Namespace::new();
        world.ip(&world_links(&node));
        world.set("net/ipv4/ip_forward", "1");
        world.set("net/ipv6/conf/all/forwarding", "1");
        // Each refusal has its answer, however many there are. Not by a
        // `ratelimit` of 0 for IPv4: each error it lets through empties the
        // bucket that `unreachable` and `prohibit` routes draw from, too
        // (inet_peer_xrlim_allow and ip_error share it).
        world.set("net/ipv4/icmp_ratemask", "0");
        world.set("net/ipv6/icmp/ratelimit", "0");
        let pods = [1, 2].map(|number| pod(&world, dir, number));
        let dns = world.run(|| Dns::start(&[RESOLVER, OTHER_RESOLVER]));
        Self {
            servers: Mutex::new(servers(&world, dir)),
            world,
            node,
            dns,
            pods: pods.into(),
            dir: dir.to_owned(),
        }
    }

    /// The pod that tests put their containers into: it has routes to
    /// everywhere.
    pub fn pod(&self) -> &Pod {
        &self.pods[0]
    }

    /// Another, which has routes to pods alone.
    pub fn neighbour(&self) -> &Pod {
        &self.pods[1]
    }

    /// Starts another server; see [`Network::told`].
    pub fn serve(&self, namespace: &Namespace, name: &str, words: &[&str]) {
        let server = Server::start(namespace, &self.dir, name, words);
        server.until_ready();
        self.servers.lock().unwrap().push(server);
    }

    /// Pids of the servers.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.servers.lock().unwrap().iter().map(Server::pid).collect()
    }

    /// What a server has told: `tcp-<port>` a line for each conversation,
    /// `udp-<address>` one for each datagram, with its sender and its length.
    pub fn told(&self, server: &str) -> String {
        let servers = self.servers.lock().unwrap();
        let found = servers.iter().find(|one| one.name() == server);
        found.unwrap_or_else(|| panic!("no server {server}")).told()
    }
}

impl Pod {
    /// Flags of `ctr run` for a container in this pod.
    pub fn flags(&self) -> Vec<String> {
        vec![
            format!("--with-ns=network:{}", self.namespace.path().display()),
            format!(
                "--mount=type=bind,src={},dst=/etc/resolv.conf,options=rbind:ro",
                self.resolv_conf.display()
            ),
        ]
    }

    /// What the container's /etc/resolv.conf says.
    pub fn resolv_conf(&self) -> String {
        fs::read_to_string(&self.resolv_conf).unwrap()
    }
}

/// Addresses of this machine, but for those that mean nothing elsewhere.
fn own_addresses() -> Vec<IpAddr> {
    let entries = nix::ifaddrs::getifaddrs().unwrap().filter_map(|entry| entry.address);
    let addresses = entries.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    });
    let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    addresses.filter(|ip| !ip.is_loopback() && !link_local(ip)).collect()
}

fn world_links(node: &[IpAddr]) -> String {
    let mut lines = "link set lo up\n".to_owned();
    let v4 = [SERVER.v4, OTHER.v4, RESOLVER, OTHER_RESOLVER, METADATA];
    for address in v4 {
        lines.push_str(&format!("address add {address}/32 dev lo\n"));
    }
    for address in [SERVER.v6, OTHER.v6] {
        lines.push_str(&format!("address add {address}/128 dev lo nodad\n"));
    }
    for address in node {
        let rest = if address.is_ipv4() { "/32 dev lo" } else { "/128 dev lo nodad" };
        lines.push_str(&format!("address add {address}{rest}\n"));
    }
    for (kind, to) in
        [("unreachable", UNREACHABLE), ("prohibit", PROHIBITED), ("blackhole", BLACK_HOLE)]
    {
        lines.push_str(&routes(kind, to));
    }
    lines
}

fn routes(kind: &str, to: Both) -> String {
    format!("route add {kind} {}\nroute add {kind} {}\n", to.v4, to.v6)
}

fn pod(world: &Namespace, dir: &Path, number: u16) -> Pod {
    let third = u8::try_from(number).unwrap();
    let at = |last: u8| {
        both(Ipv4Addr::new(10, 77, third, last), [0xfd77, 0, 0, number, 0, 0, 0, u16::from(last)])
    };
    let (gateway, address) = (at(1), at(2));
    let namespace = Namespace::new();
    let holder = namespace.path();
    world.ip(&format!(
        "link add pod{number} mtu {MTU} type veth peer name eth0 mtu {MTU} netns {holder}\n\
         address add {}/24 dev pod{number}\n\
         address add {}/64 dev pod{number} nodad\n\
         link set pod{number} up\n",
        gateway.v4,
        gateway.v6,
        holder = holder.display()
    ));
    let mut lines = format!(
        "link set lo up\n\
         address add {}/24 dev eth0\n\
         address add {}/64 dev eth0 nodad\n\
         link set eth0 up\n",
        address.v4, address.v6
    );
    let (all4, all6) =
        if number == 1 { ("default", "default") } else { ("10.77.0.0/16", "fd77::/48") };
    lines.push_str(&format!("route add {all4} via {}\n", gateway.v4));
    lines.push_str(&format!("route add {all6} via {}\n", gateway.v6));
    if number == 1 {
        lines.push_str(&routes("unreachable", UNREACHABLE_HERE));
        lines.push_str(&routes("prohibit", PROHIBITED_HERE));
    }
    namespace.ip(&lines);
    let resolv_conf = dir.join(format!("resolv-{number}.conf"));
    fs::write(&resolv_conf, format!("nameserver {RESOLVER}\nsearch world.test\n")).unwrap();
    Pod { namespace, address, gateway, resolv_conf }
}

fn servers(world: &Namespace, dir: &Path) -> Vec<Server> {
    let any = |port: u16| format!("[::]:{port}");
    let mut servers = vec![];
    for (port, words) in [
        (SCRIPT, "script"),
        (CLOSES, "close"),
        (RESETS, "recv reset"),
        (HELLO, "say:hello"),
        (80, "say:hello"),
        (443, "say:hello"),
    ] {
        let name = format!("tcp-{port}");
        let at = any(port);
        let words: Vec<&str> = ["listen", &at].into_iter().chain(words.split(' ')).collect();
        servers.push(Server::start(world, dir, &name, &words));
    }
    let echoes = SERVER.each().into_iter().chain([OTHER.v4.into(), METADATA.into()]);
    for address in echoes {
        let at = std::net::SocketAddr::new(address, ECHO).to_string();
        servers.push(Server::start(world, dir, &format!("udp-{address}"), &["udp-echo", &at]));
    }
    servers.iter().for_each(Server::until_ready);
    servers
}
