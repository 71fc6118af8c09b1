//! Says when a look at what listens may be worth it.

use std::time::Duration;

use tokio::time::sleep;

/// How often to look where nothing rings.
const PERIOD: Duration = Duration::from_millis(50);

/// See the module.
pub struct Bell;

impl Bell {
    /// A bell that rings from now on.
    pub fn hang() -> Self {
        Self
    }

    /// Returns when it has rung since the last time.
    pub async fn rung(&mut self) {
        sleep(PERIOD).await;
    }
}
