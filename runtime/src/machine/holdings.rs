use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::Cgroup;
use crate::disks::Disks;
use crate::hooks;
use crate::pod_directory::PodDirectory;
use crate::process::HostProcess;

/// Longest time of a hook that is told of a container's end here.
const HOOKS: Duration = Duration::from_secs(10);

/// Everything on the host that a sandbox made. Dropped, it is gone: that is
/// how a launch that fails half-way leaves nothing.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// What runs.
    pub processes: Vec<Arc<HostProcess>>,
    /// The way to the disks of its guest.
    pub disks: Option<Disks>,
    /// Where it is accounted.
    pub cgroup: Option<Cgroup>,
    /// What has a path.
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
