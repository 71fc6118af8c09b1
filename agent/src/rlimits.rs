//! Limits of process 1, which containers inherit unless their specs set others.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Most open files of one process: what containerd's own unit gives, and so
/// containers under runc. The kernel would give process 1 no more than 4096.
const OPEN_FILES: u64 = 1024 * 1024;

pub fn raise() -> io::Result<()> {
    let files = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    setrlimit(Resource::Nofile, files)?;
    // The kernel's own depends on the guest's memory; pids limits are cgroups'.
    setrlimit(Resource::Nproc, Rlimit { current: None, maximum: None })?;
    Ok(())
}
