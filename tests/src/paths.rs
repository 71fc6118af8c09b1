//! Where the things under test are.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The tree that the tests were built from.
pub fn tree() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A path from the environment, or one below the tree.
fn named(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| tree().join(default), PathBuf::from)
}

/// Folder of the shim, the VMM and `sandboxctl`.
pub fn binaries() -> PathBuf {
    named("SANDBOX_TEST_BIN", "target/release")
}

/// Folder of the guest's kernel and initramfs.
pub fn guest() -> PathBuf {
    named("SANDBOX_TEST_GUEST", "build/guest")
}

/// The program that tests run inside containers.
pub fn toolbox() -> PathBuf {
    named("SANDBOX_TEST_TOOLBOX", "target/x86_64-unknown-linux-gnu/release/toolbox")
}

/// Below it, each test gets a folder of its own. It must be able to hold the
/// upper side of an overlayfs.
pub fn base() -> PathBuf {
    env::var_os("SANDBOX_TEST_DIR").map_or_else(env::temp_dir, PathBuf::from)
}

/// The runtime under test, as `ctr run --runtime` takes it.
pub fn runtime() -> String {
    env::var("SANDBOX_TEST_RUNTIME").unwrap_or_else(|_| "io.sandbox.v1".to_owned())
}

/// Whether the runtime under test is the one of this tree.
pub fn ours() -> bool {
    runtime() == "io.sandbox.v1"
}

/// The engine that the configuration asks for.
pub fn engine() -> String {
    env::var("SANDBOX_TEST_ENGINE").unwrap_or_else(|_| "auto".to_owned())
}

/// Whether `/dev/kvm` can run guests here, as the VMM's own probe says.
pub fn has_kvm() -> bool {
    let out = Command::new(binaries().join("sandbox-vmm")).arg("probe").output();
    out.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("\"usable\":true"))
}

/// The shim of this tree.
pub fn shim_binary() -> PathBuf {
    binaries().join("containerd-shim-sandbox-v1")
}

/// Folder of a shim with the points at which it can be ended.
pub fn kill_points() -> PathBuf {
    named("SANDBOX_TEST_KILL_POINTS", "target/kill-points")
}

/// `sandboxctl` of this tree.
pub fn ctl_binary() -> PathBuf {
    binaries().join("sandboxctl")
}
