use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::Cgroup;
use crate::disks::Disks;
use crate::hooks;
use crate::pod_directory::PodDirectory;
use crate::process::HostProcess;

/// Timeout of each poststop hook.
const HOOKS: Duration = Duration::from_secs(10);

/// Everything that a sandbox has on the host. Drop removes it, so that a launch
/// that fails half-way leaves nothing.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// Its processes.
    pub processes: Vec<Arc<HostProcess>>,
    /// Attaches disks to its guest.
    pub disks: Option<Disks>,
    /// Its cgroup.
    pub cgroup: Option<Cgroup>,
    /// Its directory.
    pub directory: Option<PodDirectory>,
}

impl Drop for Holdings {
    fn drop(&mut self) {
        self.processes.iter().for_each(|process| process.kill());
        self.processes.iter().for_each(|process| process.reap());
        if let Some(cgroup) = self.cgroup.take() {
            cgroup.remove();
        }
        if let Some(directory) = &self.directory {
            hooks::finish_all(&directory.hooks(), HOOKS);
        }
        if let Some(directory) = self.directory.take()
            && let Err(error) = directory.remove()
        {
            tracing::error!("something of a sandbox stays: {error}");
        }
    }
}
