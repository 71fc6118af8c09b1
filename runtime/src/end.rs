//! The end of a sandbox, as everything that works for it sees it.

use std::sync::Arc;

use tokio::sync::watch;

/// Reports the sandbox's end. Clones report the same end.
#[derive(Clone, Debug)]
pub(crate) struct EndSignal(watch::Receiver<Option<Arc<str>>>);

impl EndSignal {
    /// The signal, and the sender of the reason.
    pub fn channel() -> (watch::Sender<Option<Arc<str>>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// The reason, once the sandbox has ended.
    pub fn reason(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Waits for the end and returns the reason.
    pub async fn wait(&self) -> Arc<str> {
        let mut receiver = self.0.clone();
        match receiver.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(|| "unknown".into()),
            Err(_) => "its shim dropped it".into(),
        }
    }
}
