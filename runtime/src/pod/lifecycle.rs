//! The life of one process: the first of a container, or an exec.

use std::time::SystemTime;

use tokio::sync::{Mutex, MutexGuard, watch};

use crate::container::Status;
use crate::error::Error;
use crate::event::Exit;
use crate::id::ProcessRef;

/// Exit status of a process whose sandbox ended: that of SIGKILL.
const KILLED: u32 = 128 + 9;

/// A step of a process's life. Each is entered once, but for `Running` and
/// `Paused`, which alternate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Created,
    Running,
    Paused,
    Stopped(Exit),
    Deleted(Exit),
}

impl Phase {
    fn exit(self) -> Option<Exit> {
        match self {
            Self::Created | Self::Running | Self::Paused => None,
            Self::Stopped(exit) | Self::Deleted(exit) => Some(exit),
        }
    }

    fn status(self) -> Status {
        match self {
            Self::Created => Status::Created,
            Self::Running => Status::Running,
            Self::Paused => Status::Paused,
            Self::Stopped(_) | Self::Deleted(_) => Status::Stopped,
        }
    }
}

/// The phase of a process, and the order of the calls that change it.
pub(super) struct Lifecycle {
    process: ProcessRef,
    phase: watch::Sender<Phase>,
    turn: Mutex<()>,
}

impl Lifecycle {
    pub fn new(process: ProcessRef) -> Self {
        Self { process, phase: watch::Sender::new(Phase::Created), turn: Mutex::default() }
    }

    pub fn process(&self) -> &ProcessRef {
        &self.process
    }

    /// Held by start, pause, resume, update and delete, one at a time, and by
    /// the report of the exit, which comes after the start that it follows.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    pub fn status(&self) -> Status {
        self.phase.borrow().status()
    }

    /// The exit, once the process has ended.
    pub fn exit(&self) -> Option<Exit> {
        self.phase.borrow().exit()
    }

    /// Waits for the exit.
    pub async fn wait(&self) -> Exit {
        let mut phases = self.phase.subscribe();
        let ended = phases.wait_for(|phase| phase.exit().is_some()).await;
        ended.ok().and_then(|phase| phase.exit()).unwrap_or_else(killed)
    }

    /// Refuses a call that needs another status, or a process that is deleted.
    pub fn check(
        &self,
        fits: impl FnOnce(Status) -> bool,
        must: &'static str,
    ) -> Result<(), Error> {
        let phase = *self.phase.borrow();
        if let Phase::Deleted(_) = phase {
            return Err(Error::NotFound(self.process.clone()));
        }
        let is = phase.status();
        if fits(is) {
            return Ok(());
        }
        Err(Error::WrongStatus { process: self.process.clone(), is: is.as_str(), must })
    }

    /// The process runs, unless it has ended already: its exit may be known
    /// before the answer to its start.
    pub fn run(&self) {
        self.advance(|phase| (phase == Phase::Created).then_some(Phase::Running));
    }

    pub fn pause(&self) {
        self.advance(|phase| (phase == Phase::Running).then_some(Phase::Paused));
    }

    pub fn resume(&self) {
        self.advance(|phase| (phase == Phase::Paused).then_some(Phase::Running));
    }

    /// The process has ended; false if that was known.
    pub fn stop(&self, exit: Exit) -> bool {
        self.advance(|phase| phase.exit().is_none().then_some(Phase::Stopped(exit)))
    }

    /// The process is gone, with `exit` if it has not ended before. Returns its
    /// exit. Calls that wait for their turn are refused from here on.
    pub fn delete(&self, exit: Exit) -> Exit {
        let mut last = exit;
        self.advance(|phase| {
            last = phase.exit().unwrap_or(exit);
            Some(Phase::Deleted(last))
        });
        last
    }

    fn advance(&self, next: impl FnOnce(Phase) -> Option<Phase>) -> bool {
        self.phase.send_if_modified(|phase| match next(*phase) {
            Some(next) => {
                *phase = next;
                true
            }
            None => false,
        })
    }
}

/// The exit of a process whose sandbox ended now.
pub(super) fn killed() -> Exit {
    Exit { status: KILLED, at: SystemTime::now() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::failure::ErrorKind;

    fn exit(status: u32) -> Exit {
        Exit { status, at: SystemTime::now() }
    }

    fn life() -> Lifecycle {
        Lifecycle::new(ProcessRef::named("web", "x"))
    }

    #[test]
    fn a_process_is_created_runs_pauses_and_stops_once() {
        let life = life();
        life.pause();
        assert_eq!(life.status(), Status::Created);
        life.run();
        life.pause();
        life.run();
        assert_eq!(life.status(), Status::Paused);
        life.resume();
        assert_eq!(life.status(), Status::Running);
        let error = life.check(|is| is == Status::Stopped, "stopped").unwrap_err();
        let text = r#"process "x" of container "web" is running, it must be stopped"#;
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::FailedPrecondition, text)
        );
        assert!(life.stop(exit(3)));
        assert!(!life.stop(exit(4)));
        assert_eq!(life.exit().unwrap().status, 3);
    }

    #[test]
    fn an_exit_before_the_answer_to_the_start_stays() {
        let life = life();
        life.stop(exit(1));
        life.run();
        assert_eq!(life.status(), Status::Stopped);
    }

    #[tokio::test]
    async fn a_deleted_process_is_not_found_and_keeps_its_exit() {
        let life = life();
        assert_eq!(life.delete(exit(5)).status, 5);
        assert_eq!(life.delete(exit(6)).status, 5);
        assert!(!life.stop(exit(7)));
        assert_eq!(life.wait().await.status, 5);
        let error = life.check(|_| true, "there").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
