//! Namespaces that only the benchmark sees: a guest, a pod whose interface is
//! one end of a cable, and the world at its other end.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The pod's address.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The world's: the pod's way out.
pub const WORLD: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 254);

/// What each namespace is told: ports enough that a run does not find those of
/// the last one taken, and the congestion control that every kernel lets a
/// namespace choose, whatever the machine's is: BBR paces by timers.
const SETTINGS: [(&str, &str); 3] = [
    ("net/ipv4/ip_local_port_range", "1024 65535"),
    ("net/core/somaxconn", "4096"),
    ("net/ipv4/tcp_congestion_control", "reno"),
];

/// The three; they end with this.
pub struct Space {
    name: String,
}

impl Space {
    /// Made with cables of this MTU.
    pub fn new(mtu: u16) -> Result<Self> {
        let space = Self { name: format!("sandbox-bench-{}", std::process::id()) };
        for end in ["guest", "pod", "world"] {
            let name = space.end(end);
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            for (file, value) in SETTINGS {
                let write = format!("echo {value} >/proc/sys/{file} 2>/dev/null || true");
                ip(&["netns", "exec", &name, "sh", "-c", &write])?;
            }
        }
        let (pod, world, mtu) = (space.end("pod"), space.end("world"), mtu.to_string());
        let link = ["-n", &pod, "link", "add", "eth0", "mtu", &mtu, "type", "veth"];
        ip(&[&link[..], &["peer", "name", "eth0", "mtu", &mtu, "netns", &world]].concat())?;
        for (name, address) in [(&pod, POD), (&world, WORLD)] {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
            ip(&["-n", name, "link", "set", "eth0", "up"])?;
        }
        ip(&["-n", &pod, "route", "add", "default", "via", &WORLD.to_string()])?;
        Ok(space)
    }

    fn end(&self, end: &str) -> String {
        format!("{}-{end}", self.name)
    }

    /// Where the guest's namespace is a file.
    pub fn guest_path(&self) -> String {
        format!("/run/netns/{}", self.end("guest"))
    }

    /// The same of the pod's.
    pub fn pod_path(&self) -> String {
        format!("/run/netns/{}", self.end("pod"))
    }

    /// A program in one of "guest", "pod" and "world".
    pub fn command(&self, end: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.end(end)]).arg(program);
        command
    }

    /// Whether the guest knows a way to the world.
    pub fn guest_has_route(&self) -> bool {
        let out = Command::new("ip")
            .args(["-n", &self.end("guest"), "route", "get", &WORLD.to_string()])
            .output();
        out.is_ok_and(|out| out.status.success())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        for end in ["guest", "pod", "world"] {
            let _ = ip(&["netns", "delete", &self.end(end)]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let out = Command::new("ip").args(arguments).output().context("running ip(8)")?;
    ensure!(
        out.status.success(),
        "ip {}: {} (this needs root)",
        arguments.join(" "),
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(())
}
