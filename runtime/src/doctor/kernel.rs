use std::path::Path;

use super::{Check, Host};
use crate::config::Config;

const MIB: u64 = 1024;

/// What of the host's kernel matters.
pub(super) fn checks(host: &Host, config: &Config) -> [Check; 3] {
    [cgroup(host), overlay(host), memory(host, config)]
}

fn cgroup(host: &Host) -> Check {
    let (version, words) = if host.exists("/sys/fs/cgroup/cgroup.controllers") {
        ("2", "version 2")
    } else if host.exists("/sys/fs/cgroup/memory") {
        ("1", "version 1: it works; the containers' own limits are version 2, in the guest")
    } else {
        return Check::warning("cgroup", "not mounted: sandboxes run without limits on the host");
    };
    Check::ok("cgroup", words).fact("version", version)
}

/// containerd's usual snapshotter needs it; the shim itself does not.
fn overlay(host: &Host) -> Check {
    let known = host.read(Path::new("/proc/filesystems")).unwrap_or_default();
    if known.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        Check::ok("overlayfs", "in the kernel")
    } else {
        Check::warning("overlayfs", "not in the kernel: containerd's overlayfs snapshotter fails")
            .fix("modprobe overlay")
    }
}

fn memory(host: &Host, config: &Config) -> Check {
    let meminfo = host.read(Path::new("/proc/meminfo")).unwrap_or_default();
    let available = meminfo.lines().find_map(|line| {
        let kib = line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?;
        kib.trim().parse::<u64>().ok()
    });
    let Some(available) = available.map(|kib| kib / MIB) else {
        return Check::warning("memory", "/proc/meminfo does not tell what is free");
    };
    let words = format!("{available} MiB free, a sandbox takes up to {} MiB", config.vm.memory_mib);
    let check = if available < u64::from(config.vm.memory_mib) {
        Check::warning("memory", words)
    } else {
        Check::ok("memory", words)
    };
    check.fact("available_mib", &available.to_string())
}
