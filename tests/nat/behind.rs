//! A namespace behind the NAT.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use sandbox_tests::network::{MTU, Namespace, RESOLVER};
use sandbox_tests::{Network, paths};
use tempfile::TempDir;

/// A pod, and a guest that has its addresses, whose frames `netstack-tap`
/// carries into the pod's namespace.
pub struct Behind {
    pub network: Network,
    pub guest: Namespace,
    tap: Child,
    _dir: TempDir,
}

impl Behind {
    /// With more words for `netstack-tap`.
    pub fn with(words: &[&str]) -> Self {
        let dir = tempfile::tempdir_in(paths::base()).unwrap();
        let network = Network::new(&dir.path().join("network"));
        let guest = Namespace::new();
        let pod = network.pod();
        let own = [format!("{}/24", pod.address.v4), format!("{}/64", pod.address.v6)];
        let mut tap = pod.namespace.run(|| {
            Command::new(paths::binaries().join("netstack-tap"))
                .arg("--netns")
                .arg(guest.path())
                .args(["--address", &own[0], "--address", &own[1]])
                .args(["--gateway4", &pod.gateway.v4.to_string()])
                .args(["--mtu", &MTU.to_string(), "--resolver", &RESOLVER.to_string()])
                .args(words)
                .stdout(Stdio::piped())
                .spawn()
                .expect("netstack-tap does not start: cargo build --release -p sandbox-netstack")
        });
        let mut line = String::new();
        BufReader::new(tap.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { network, guest, tap, _dir: dir }
    }

    pub fn new() -> Self {
        Self::with(&[])
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.tap.id()).unwrap()
    }

    /// What the NAT has resident, in KiB.
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        // Gone already, if the test has found that.
        let _ = self.tap.kill();
        let _ = self.tap.wait();
    }
}
