//! Where the agent keeps things in the guest. The host never sees these.

use std::path::{Path, PathBuf};

/// State of libcontainer, one folder per container. Short, because a socket in
/// it must fit the 107 bytes of a Unix address with an id of the longest kind.
pub const STATE_DIR: &str = "/run/sandbox/c";

/// Bundles, one folder per container: `config.json` and the sockets that the
/// creating child talks to.
pub const BUNDLE_DIR: &str = "/run/sandbox/b";

/// The container's bundle.
pub fn bundle(id: &str) -> PathBuf {
    Path::new(BUNDLE_DIR).join(id)
}

/// libcontainer's folder of the container.
pub fn state(id: &str) -> PathBuf {
    Path::new(STATE_DIR).join(id)
}

/// The spec in a bundle, under the name that libcontainer looks for.
pub const CONFIG: &str = "config.json";

/// Datagram socket in a bundle on which the agent hears how a creation went.
pub const REPORT_SOCKET: &str = "report.sock";

/// Socket in a bundle through which the terminal's master reaches the agent.
pub const CONSOLE_SOCKET: &str = "tty.sock";

/// Folder that `/etc` of the guest leads to: the root is read-only.
pub const ETC: &str = "/run/etc";

/// The guest's own `/etc/resolv.conf`.
pub const RESOLV_CONF: &str = "/run/etc/resolv.conf";

/// The guest's own `/etc/hosts`.
pub const HOSTS: &str = "/run/etc/hosts";
