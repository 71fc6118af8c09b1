//! Whether KVM can run our guests, asked once per boot of the host.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::file::write_atomically;

/// Where the verdict is kept, in `state_dir`.
const CACHE: &str = "kvm-probe.json";
/// How long the probe may take; it is done in a millisecond where KVM works,
/// and has taken 5 seconds on a host with a load of many times its cores. A KVM
/// that hangs in it is not usable.
const LIMIT: Duration = Duration::from_secs(15);
/// Longest answer.
const MAX_ANSWER: u64 = 4096;
const DEVICE: &str = "/dev/kvm";

/// The verdict on this host's KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Whether the kvm engine can be used.
    pub usable: bool,
    /// Why, in words.
    pub reason: String,
}

/// The verdict as it is kept, with all that it depends on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    boot_id: String,
    vmm: String,
    probe: Probe,
}

impl Probe {
    fn unusable(reason: String) -> Self {
        Self { usable: false, reason }
    }
}

/// Asks `sandbox-vmm probe`, or what is kept of its answer. Blocks for a few
/// milliseconds the first time after a boot.
pub fn probe(config: &Config) -> Probe {
    if !Path::new(DEVICE).exists() {
        // Not kept: the module may be loaded later.
        return Probe::unusable(format!("{DEVICE} does not exist"));
    }
    let key = boot_id().ok().zip(identity(&config.vmm).ok());
    let cache = config.state_dir.join(CACHE);
    if let (Some((boot_id, vmm)), Some(kept)) = (&key, read(&cache))
        && (&kept.boot_id, &kept.vmm) == (boot_id, vmm)
    {
        return kept.probe;
    }
    let probe = match ask(&config.vmm) {
        Ok(probe) => probe,
        // Not kept: the host may only have been too busy to answer.
        Err(error) => {
            let words = format!("{} probe failed: {error}", config.vmm.display());
            return Probe::unusable(words);
        }
    };
    if let Some((boot_id, vmm)) = key {
        keep(&cache, &Kept { boot_id, vmm, probe: probe.clone() });
    }
    probe
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Changes when the binary is replaced.
fn identity(vmm: &Path) -> io::Result<String> {
    let meta = fs::metadata(vmm)?;
    Ok(format!("{}:{}:{}.{}", vmm.display(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

fn read(cache: &Path) -> Option<Kept> {
    serde_json::from_slice(&fs::read(cache).ok()?).ok()
}

/// The verdict can be had again: a failure to keep it costs a millisecond.
fn keep(cache: &Path, kept: &Kept) {
    let written = serde_json::to_vec(kept)
        .map_err(io::Error::other)
        .and_then(|json| write_atomically(cache, &json));
    if let Err(error) = written {
        tracing::debug!("cannot keep the probe's verdict in {}: {error}", cache.display());
    }
}

fn ask(vmm: &Path) -> io::Result<Probe> {
    let mut child = Command::new(vmm)
        .arg("probe")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let answer = answer(&mut child);
    let _ = child.kill();
    let _ = child.wait();
    let answer = answer?;
    serde_json::from_str(answer.trim()).map_err(|_| {
        io::Error::other(format!("it answered {:?}", answer.chars().take(80).collect::<String>()))
    })
}

/// All of its output until it closes it, or the limit passes.
fn answer(child: &mut Child) -> io::Result<String> {
    let mut stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let end = Instant::now() + LIMIT;
    let mut bytes = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
        if poll(&mut fds, Some(&wait))? == 0 {
            return Err(io::Error::other(format!("no answer within {} s", LIMIT.as_secs())));
        }
        let mut chunk = [0; 512];
        let n = stdout.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..n]);
        if n == 0 || bytes.len() as u64 > MAX_ANSWER {
            return String::from_utf8(bytes).map_err(io::Error::other);
        }
    }
}

#[cfg(test)]
mod tests;
