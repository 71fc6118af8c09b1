//! What must not be there when containers have ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use crate::wait::patience;
use crate::{Bed, Process, containerd, paths};

/// How long what has ended may take to be gone.
const LIMIT: Duration = Duration::from_secs(5);

/// Where shims of containerd put their sockets, whichever containerd it is.
const SHIM_SOCKETS: &str = "/run/containerd/s";

/// Ending of the sockets where tests, and not containerd, take events.
pub const EVENTS: &str = ".events";

/// Fails with a list of everything that is left, if there still is anything
/// after [`LIMIT`].
pub fn assert_none(bed: &Bed) {
    let end = std::time::Instant::now() + patience(LIMIT);
    loop {
        let found = find(bed);
        if found.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < end, "left behind:\n  {}", found.join("\n  "));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn find(bed: &Bed) -> Vec<String> {
    let mut found = processes(&bed.own_processes());
    found.extend(files(&bed.state_dir(), &["kvm-probe.json"]));
    found.extend(files(&bed.dir().join("fifo"), &[]));
    found.extend(files(&bed.dir().join("run/io.containerd.runtime.v2.task/default"), &[]));
    found.extend(mounts(bed.dir()));
    found.extend(sockets(bed));
    found.extend(named_after(Path::new("/sys/fs/cgroup"), &bed.ids(), 8));
    found.extend(named_after(Path::new("/run/netns"), &bed.ids(), 1));
    found.extend(named_after(Path::new("/run/containerd/runc"), &bed.ids(), 2));
    found
}

/// What descends from this process, but for the `known` ones. Takes in the
/// dead on the way: orphans come to this process as it is their subreaper.
pub fn processes(known: &[i32]) -> Vec<String> {
    let me = std::process::id().try_into().unwrap();
    let mut found = vec![];
    for process in Process::below(me) {
        if known.contains(&process.pid) {
            continue;
        }
        if process.state == 'Z' && process.parent == me {
            let _ = waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG));
        } else {
            found.push(format!(
                "process {} {}: {:?}",
                process.pid,
                process.state,
                process.arguments()
            ));
        }
    }
    found
}

fn files(dir: &Path, but: &[&str]) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap());
    entries
        .filter(|entry| !but.iter().any(|name| entry.file_name() == *name))
        .map(|entry| format!("file {}", entry.path().display()))
        .collect()
}

/// Mounts in this mount namespace of which a path begins with `prefix`.
pub fn mounts(prefix: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let prefix = prefix.display().to_string();
    table
        .lines()
        .filter(|line| line.contains(&prefix))
        .map(|line| format!("mount {line}"))
        .collect()
}

fn sockets(bed: &Bed) -> Vec<String> {
    let (grpc, events) = (containerd::socket(bed.dir()), containerd::events_socket(bed.dir()));
    let ours = [grpc.display().to_string(), events.display().to_string()];
    let prefix = format!("{}/", bed.dir().display());
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let mut found: Vec<String> = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|path| path.starts_with(&prefix) && !ours.iter().any(|our| our == path))
        .filter(|path| !path.ends_with(EVENTS))
        .map(|path| format!("socket {path}"))
        .collect();
    let shims =
        bed.ids().into_iter().map(|id| shim_socket(&grpc, &id)).filter(|path| path.exists());
    found.extend(shims.map(|path| format!("socket {}", path.display())));
    found
}

/// Sockets of the bed's shims that are there.
pub fn shim_sockets(bed: &Bed) -> Vec<PathBuf> {
    let grpc = containerd::socket(bed.dir());
    bed.ids().iter().map(|id| shim_socket(&grpc, id)).filter(|path| path.exists()).collect()
}

/// Where containerd's shim library puts the socket of `id`.
pub fn shim_socket(address: &Path, id: &str) -> PathBuf {
    let digest = Sha256::digest(address.join("default").join(id).display().to_string());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new(SHIM_SOCKETS).join(hex)
}

/// Folders and files below `dir`, down to `depth`, whose name has one of `ids` in it.
fn named_after(dir: &Path, ids: &[String], depth: usize) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ids.iter().any(|id| name.contains(id.as_str())) {
            found.push(format!("named after a container: {}", entry.path().display()));
        } else if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(named_after(&entry.path(), ids, depth - 1));
        }
    }
    found
}

/// What the whole suite must not leave: entries of the folders that tests
/// share with everything else on the machine.
pub fn shared_state() -> Vec<String> {
    let mut seen = files(Path::new(SHIM_SOCKETS), &[]);
    seen.extend(files(Path::new("/run/containerd/fifo"), &[]));
    seen.extend(files(Path::new("/run/netns"), &[]));
    seen.extend(mounted_namespaces());
    seen.extend(links());
    // runc leaves the parent of its containers' cgroups.
    if paths::ours() {
        let parent = ["default".to_owned()];
        seen.extend(named_after(Path::new("/sys/fs/cgroup"), &parent, 2));
    }
    seen
}

/// Namespaces that live because they are mounted somewhere.
fn mounted_namespaces() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .filter(|line| line.contains(" - nsfs "))
        .map(|line| format!("mount {line}"))
        .collect()
}

/// Network devices of this machine.
fn links() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries.map(|entry| format!("network device {}", entry.path().display())).collect()
}
