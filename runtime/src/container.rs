use std::path::PathBuf;

use crate::event::Exit;

/// A mount that containerd wants done to make a container's root file system,
/// in the form of its Mount type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootfsMount {
    /// File system type: `overlay`, `bind`, `erofs` and so on.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where below the rootfs; empty for the rootfs itself.
    pub target: String,
    /// As mount(8) takes them.
    pub options: Vec<String>,
}

/// What [`Pod::create_container`](crate::Pod::create_container) needs.
#[derive(Clone, Debug, Default)]
pub struct CreateContainer {
    /// Its id.
    pub id: String,
    /// Folder with its `config.json`.
    pub bundle: PathBuf,
    /// How to make its root file system; empty when the bundle holds it.
    pub rootfs: Vec<RootfsMount>,
    /// FIFO path or URI of its standard input, empty for none.
    pub stdin: String,
    /// FIFO path or URI of its standard output, empty for none.
    pub stdout: String,
    /// FIFO path or URI of its standard error, empty for none.
    pub stderr: String,
    /// Whether it gets a terminal.
    pub terminal: bool,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Made, and waiting for start.
    Created,
    /// Started.
    Running,
    /// Ended, and not deleted.
    Stopped,
}

impl Status {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// What containerd's State call asks for.
#[derive(Clone, Debug)]
pub struct ContainerState {
    /// What it was created with.
    pub created: CreateContainer,
    /// Its pid for containerd: a process on this host that lives as long as
    /// the sandbox.
    pub pid: u32,
    /// Where it is in its life.
    pub status: Status,
    /// Set once stopped.
    pub exit: Option<Exit>,
}
