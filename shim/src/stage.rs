//! The stages of a sandbox of the Sandbox API.

use std::time::SystemTime;

use sandbox_runtime::Exit;
use tokio::sync::watch;

/// Exit status of a sandbox that died, as of a process that SIGKILL ended.
pub const DIED: u32 = 137;

/// A stage of a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// containerd has asked for none: the shim serves a container without one.
    #[default]
    None,
    Created,
    Started(SystemTime),
    /// When it started, if it did, and its end.
    Ended(Option<SystemTime>, Exit),
}

/// The stage of the shim's sandbox.
#[derive(Debug, Default)]
pub struct SandboxState(watch::Sender<Stage>);

impl SandboxState {
    /// True once containerd has asked for a sandbox, which the end of its last
    /// container does not end.
    pub fn exists(&self) -> bool {
        *self.0.borrow() != Stage::None
    }

    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Changes the stage to what `next` makes of it; false where that is none.
    pub fn advance(&self, next: impl FnOnce(Stage) -> Option<Stage>) -> bool {
        self.0.send_if_modified(|stage| match next(*stage) {
            Some(next) => {
                *stage = next;
                true
            }
            None => false,
        })
    }

    pub fn end(&self, status: u32) {
        self.advance(|stage| match stage {
            Stage::None | Stage::Ended(..) => None,
            Stage::Created => Some(Stage::Ended(None, ended_now(status))),
            Stage::Started(since) => Some(Stage::Ended(Some(since), ended_now(status))),
        });
    }

    pub async fn ended(&self) -> Exit {
        let mut stages = self.0.subscribe();
        let ended = stages.wait_for(|stage| matches!(stage, Stage::Ended(..))).await;
        match ended.as_deref() {
            Ok(Stage::Ended(_, exit)) => *exit,
            _ => ended_now(DIED),
        }
    }
}

fn ended_now(status: u32) -> Exit {
    Exit { status, at: SystemTime::now() }
}
