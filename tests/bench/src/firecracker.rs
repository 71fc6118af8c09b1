//! Boots the same guest in Firecracker.

use std::fs;
use std::io::pipe;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

use crate::Guest;
use crate::figure::Boot;
use crate::watch::{Seen, Watch};

/// What our kvm engine gives the kernel, in Firecracker's terms.
const CMDLINE: &str =
    "console=ttyS0 quiet panic=-1 rootfstype=ramfs swiotlb=noforce cgroup_no_v1=all reboot=k";

/// Ends Firecracker with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots once.
pub fn boot(binary: &Path, guest: &Guest) -> Result<Boot> {
    let folder = tempfile::tempdir_in("/run")?;
    let socket = folder.path().join("vsock.sock");
    let config = folder.path().join("config.json");
    let machine = json!({
        "boot-source": {
            "kernel_image_path": guest.vmlinux, "initrd_path": guest.initramfs, "boot_args": format!("{CMDLINE} {}", guest.cmdline),
        },
        "drives": [],
        "machine-config": { "vcpu_count": guest.vcpus, "mem_size_mib": guest.memory_mib },
        "vsock": { "guest_cid": 3, "uds_path": socket },
    });
    fs::write(&config, machine.to_string())?;
    let listener = UnixListener::bind(folder.path().join("vsock.sock_1024"))?;
    let (console, console_writer) = pipe()?;

    let start = Instant::now();
    let mut command = Command::new(binary);
    command.args(["--no-api", "--level", "Error", "--config-file"]).arg(&config);
    command.stdin(Stdio::null()).stdout(console_writer);
    let _running = Running(command.spawn().context("starting Firecracker")?);
    let mut watch = Watch::new(start, listener);
    watch.add("console", console.into());
    let mut marks = Vec::new();
    let connected = watch.until_connected(|at, seen| {
        match seen {
            Seen::Connected => marks.push(("agent".to_owned(), at)),
            Seen::Line(_, line) if line.contains(crate::sandbox::AGENT_STARTS) => {
                marks.push(("machine and kernel".to_owned(), at));
            }
            Seen::Line(..) => {}
        }
        Ok(())
    });
    connected?;
    Ok(Boot { marks })
}
