//! resolv.conf(5).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Longest file: it goes to the agent in one message, and one that never ends
/// must not.
const MAX_LEN: u64 = 64 * 1024;
/// Servers that the C libraries use.
const MAX_SERVERS: usize = 3;
/// The host's own.
pub(super) const HOST: &str = "/etc/resolv.conf";
/// With the servers behind systemd-resolved's stub, which listens on the
/// host's loopback, where no guest is.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// A resolv.conf and its servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolv {
    pub text: String,
    pub servers: Vec<IpAddr>,
}

impl Resolv {
    fn parse(text: &str) -> Self {
        let servers = text.lines().filter_map(server).take(MAX_SERVERS).collect();
        Self { text: text.to_owned(), servers }
    }

    /// Reads a file of the host.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        Ok(Self::parse(&text(file)?))
    }

    /// The host's, for a guest: servers on the host's loopback are left out.
    pub fn of_host() -> Self {
        Self::of(Path::new(HOST), Path::new(RESOLVED))
    }

    fn of(host: &Path, resolved: &Path) -> Self {
        let own = Self::read(host).unwrap_or_default();
        if own.servers.iter().any(|server| !server.is_loopback()) || own.servers.is_empty() {
            return own.without_loopback();
        }
        match Self::read(resolved) {
            Ok(behind) => behind.without_loopback(),
            Err(_) => own.without_loopback(),
        }
    }

    fn without_loopback(self) -> Self {
        let leads_home = |line: &str| server(line).is_some_and(|server| server.is_loopback());
        let lines = self.text.lines().filter(|line| !leads_home(line));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        Self::parse(&text)
    }
}

fn text(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `nameserver fe80::1%eth0`
fn server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    if words.next()? != "nameserver" {
        return None;
    }
    let address = words.next()?;
    address.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests;
