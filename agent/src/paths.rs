//! Paths of the agent's own files in the guest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// State of libcontainer, one directory per container. Short, because a socket in
/// it must fit the 107 bytes of a Unix address with an id of the longest kind.
pub const STATE_DIR: &str = "/run/sandbox/c";

/// Bundles, one directory per container: `config.json` and the sockets that the
/// creating child talks to.
pub const BUNDLE_DIR: &str = "/run/sandbox/b";

pub fn bundle(id: &str) -> PathBuf {
    Path::new(BUNDLE_DIR).join(id)
}

/// libcontainer's directory of the container.
pub fn state(id: &str) -> PathBuf {
    Path::new(STATE_DIR).join(id)
}

/// Removes the bundle and libcontainer's state of container `id`.
pub fn remove(id: &str) -> io::Result<()> {
    for dir in [bundle(id), state(id)] {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// The spec in a bundle, under the name that libcontainer looks for.
pub const CONFIG: &str = "config.json";

/// Datagram socket in a bundle on which the agent receives the reports of a creation.
pub const REPORT_SOCKET: &str = "report.sock";

/// Socket in a bundle through which the terminal's master reaches the agent.
pub const CONSOLE_SOCKET: &str = "tty.sock";

/// Directory that `/etc` of the guest leads to: the root is read-only.
pub const ETC: &str = "/run/etc";

/// The guest's own `/etc/resolv.conf`.
pub const RESOLV_CONF: &str = "/run/etc/resolv.conf";

/// The guest's own `/etc/hosts`.
pub const HOSTS: &str = "/run/etc/hosts";
