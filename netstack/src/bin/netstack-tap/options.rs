//! The command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use sandbox_netstack::gate::Link;
use sandbox_netstack::listeners::Reported;
use sandbox_netstack::policy::{Cidr, Document, Layer, Place, Protocol};
use smoltcp::wire::EthernetAddress;

use crate::failure::Failure;

/// The guest's MAC address, and ours.
const GUEST_MAC: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0, 0x02]);
pub const GATEWAY_MAC: EthernetAddress = EthernetAddress([0x02, 0, 0, 0, 0, 0x01]);

/// Frames that wait in the device. It drops what is more, and does not hold
/// TCP back before: this is the windows of some dozens of connections.
const QUEUE: usize = 10_000;

/// Our address in the guest's IPv6, on its link.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Puts a userspace NAT with a policy between a network namespace and the one
/// this runs in.
#[derive(Debug, Parser)]
pub struct Options {
    /// The namespace that gets the interface, as a path
    #[arg(long)]
    pub netns: PathBuf,
    /// The interface's name
    #[arg(long, default_value = "tap0")]
    pub name: String,
    /// The interface's addresses, with the length of their prefix
    #[arg(long, default_values = ["10.0.2.15/24", "fd00::15/64"])]
    pub address: Vec<String>,
    /// The gateway of IPv4
    #[arg(long, default_value = "10.0.2.2")]
    pub gateway4: Ipv4Addr,
    /// The interface's MTU
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..=65520))]
    pub mtu: u16,
    /// A policy file; without one everything is open that the system's own
    /// tier does not close
    #[arg(long)]
    pub policy: Option<PathBuf>,
    /// A policy file of the node's operator, above the other
    #[arg(long)]
    pub node_policy: Option<PathBuf>,
    /// DNS servers whose answers teach names
    #[arg(long)]
    pub resolver: Vec<IpAddr>,
    /// A TCP port of the guest that is reachable at --publish-at
    #[arg(long)]
    pub publish: Vec<u16>,
    /// A UDP port of the guest that is reachable at --publish-at
    #[arg(long)]
    pub publish_udp: Vec<u16>,
    /// Addresses of this namespace at which published ports are bound
    #[arg(long, default_values = ["0.0.0.0", "::"])]
    pub publish_at: Vec<IpAddr>,
    /// Where the audit goes: one line of JSON for each verdict
    #[arg(long)]
    pub audit: Option<PathBuf>,
    /// Where frames are captured, as pcapng with the verdicts as comments: the
    /// last of them, in this file and in one whose name ends in ".old"
    #[arg(long)]
    pub pcap: Option<PathBuf>,
    /// Most bytes of the two files of --pcap
    #[arg(long, default_value_t = 256 << 20)]
    pub pcap_max: usize,
    /// Neither checksum nor segmentation offload
    #[arg(long)]
    pub no_offload: bool,
}

impl Options {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.address
            .iter()
            .filter_map(|address| address.split('/').next().and_then(|ip| ip.parse().ok()))
    }

    /// The guest's end of the link.
    pub fn link(&self) -> Link {
        let (mut v4, mut v6) = (vec![], vec![]);
        for address in self.addresses() {
            match address {
                IpAddr::V4(ip) => v4.push(ip),
                IpAddr::V6(ip) => v6.push(ip),
            }
        }
        Link::new(GUEST_MAC, &v4, &v6)
    }

    /// What the guest is said to listen on.
    pub fn published(&self) -> Vec<Reported> {
        let tcp = self.publish.iter().map(|port| (Protocol::Tcp, *port));
        let udp = self.publish_udp.iter().map(|port| (Protocol::Udp, *port));
        let reported = tcp.chain(udp).flat_map(|(protocol, port)| {
            self.addresses().map(move |ip| Reported { protocol, at: (ip, port).into() })
        });
        reported.collect()
    }

    /// Where the guest is.
    pub fn place(&self) -> Place {
        Place { host: vec![], resolvers: self.resolver.clone(), cluster: Vec::<Cidr>::new() }
    }

    /// The node's policy and the guest's.
    pub fn layers(&self) -> Result<(Layer, Layer), Failure> {
        Ok((layer(self.node_policy.as_ref())?, layer(self.policy.as_ref())?))
    }

    /// What iproute2 is to do in the guest's namespace.
    pub fn interface_commands(&self) -> Vec<Vec<String>> {
        let words = |line: String| line.split(' ').map(str::to_owned).collect();
        let name = &self.name;
        let mut lines = vec![
            words(format!("link set dev {name} address {} mtu {} up", colons(GUEST_MAC), self.mtu)),
            words(format!("link set dev {name} txqueuelen {QUEUE}")),
            words("link set dev lo up".to_owned()),
        ];
        for address in &self.address {
            // Nobody else is on this link, so no address can be a duplicate.
            let nodad = if address.contains(':') { " nodad" } else { "" };
            lines.push(words(format!("address add {address} dev {name}{nodad}")));
        }
        lines.push(words(format!("route add default via {} dev {name}", self.gateway4)));
        if self.addresses().any(|address| address.is_ipv6()) {
            lines.push(words(format!("-6 route add default via {GATEWAY6} dev {name}")));
        }
        lines
    }
}

/// The address as iproute2 reads it.
fn colons(mac: EthernetAddress) -> String {
    mac.0.map(|byte| format!("{byte:02x}")).join(":")
}

fn layer(path: Option<&PathBuf>) -> Result<Layer, Failure> {
    let Some(path) = path else { return Ok(Layer::Unset) };
    let (_, loaded) = Document::read(path)?;
    for warning in &loaded.warnings {
        eprintln!("netstack-tap: {}: {warning}", path.display());
    }
    Ok(Layer::Read(Arc::new(loaded.document)))
}
