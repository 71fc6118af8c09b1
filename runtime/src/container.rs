use std::path::PathBuf;

use crate::event::Exit;
use crate::id::{ExecId, ProcessRef};

/// A mount of a container's root file system, in the form of containerd's Mount
/// type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootfsMount {
    /// File system type: `overlay`, `bind`, `erofs` and so on.
    pub kind: String,
    /// The source.
    pub source: String,
    /// Where below the rootfs; empty for the rootfs itself.
    pub target: String,
    /// As mount(8) takes them.
    pub options: Vec<String>,
}

/// The argument of [`Pod::create_container`](crate::Pod::create_container).
#[derive(Clone, Debug, Default)]
pub struct CreateContainer {
    /// Its id.
    pub id: String,
    /// Directory with its `config.json`.
    pub bundle: PathBuf,
    /// Mounts of its root file system; empty when the bundle holds it.
    pub rootfs: Vec<RootfsMount>,
    /// Its first process's streams.
    pub stdio: Stdio,
}

/// Standard streams of a process, as containerd names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stdio {
    /// FIFO path or URI of its standard input, empty for none.
    pub stdin: String,
    /// FIFO path or URI of its standard output, empty for none.
    pub stdout: String,
    /// FIFO path or URI of its standard error, empty for none.
    pub stderr: String,
    /// Whether it gets a terminal.
    pub terminal: bool,
}

/// The argument of [`Pod::exec`](crate::Pod::exec).
#[derive(Clone, Debug)]
pub struct ExecProcess {
    /// Its name, free among those of the container.
    pub process: ProcessRef,
    /// The `process` of an OCI runtime spec, as JSON.
    pub spec: Vec<u8>,
    /// Its streams.
    pub stdio: Stdio,
}

/// The status of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waiting for start.
    Created,
    /// Started.
    Running,
    /// Started, and frozen.
    Paused,
    /// Ended, and not deleted.
    Stopped,
}

impl Status {
    /// The status as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The state of a process, for containerd's State call.
#[derive(Clone, Debug)]
pub struct ProcessState {
    /// Bundle of the container.
    pub bundle: PathBuf,
    /// Its streams.
    pub stdio: Stdio,
    /// Its pid for containerd: that of a process on this host that lives as long
    /// as the sandbox; 0 for an exec that was not started.
    pub pid: u32,
    /// Its status.
    pub status: Status,
    /// Set once it has ended.
    pub exit: Option<Exit>,
}

/// A process of a container: the first has the task's number, others have the
/// guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pid {
    /// Its number.
    pub number: u32,
    /// The exec; none for the first process and for what it and others started.
    pub exec: Option<ExecId>,
}
