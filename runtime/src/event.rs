use std::time::SystemTime;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::id::ProcessRef;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 to 255, or 128 + signal; 137 when the sandbox ended under it.
    pub status: u32,
    /// The time of the end.
    pub at: SystemTime,
}

/// An event in a pod that no call reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodEvent {
    /// A process has ended. Comes once for each created container, and for
    /// each exec that was started: before that of its container.
    Exit {
        /// The process.
        process: ProcessRef,
        /// The pid that create or start returned.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// The guest's kernel killed a process of the container for its memory
    /// limit. Comes before the exit, and once a second at most.
    Oom {
        /// Id of the container.
        container: String,
    },
}

/// Receives the events of one pod, in order. At most one comes for each
/// container, one for each exec, and one a second for lack of memory, so the
/// queue cannot grow past what containerd itself created.
pub type Events = UnboundedReceiver<PodEvent>;
