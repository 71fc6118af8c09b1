use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How far a boot is.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    stage: Mutex<(Stage, String)>,
}

/// Steps in their order. Reports of different processes can overtake each
/// other; what is shown does not go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The processes are being started.
    Starting,
    /// A device is served.
    Devices,
    /// The engine is at work.
    Engine,
    /// The guest's CPUs run.
    Running,
    /// The agent has connected.
    Connected,
}

impl Progress {
    pub fn begin() -> Self {
        let stage = (Stage::Starting, "starting the sandbox's processes".to_owned());
        Self { began: Instant::now(), stage: Mutex::new(stage) }
    }

    /// Reports a step with its description.
    pub fn reach(&self, stage: Stage, words: &str) {
        tracing::debug!("boot: {words} after {} ms", self.elapsed().as_millis());
        let mut current = self.stage.lock();
        if stage >= current.0 {
            *current = (stage, words.to_owned());
        }
    }

    /// The last step in words.
    pub fn stage(&self) -> String {
        self.stage.lock().1.clone()
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
