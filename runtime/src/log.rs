//! The level of the log, in every process of a sandbox.

use tracing::level_filters::LevelFilter;

/// Names the level: error, warn, info, debug or trace.
pub const LOG_VARIABLE: &str = "SANDBOX_LOG";

/// The level that the environment names, or else `default`.
pub fn log_level(default: LevelFilter) -> LevelFilter {
    let named = std::env::var(LOG_VARIABLE).ok();
    named.and_then(|level| level.parse().ok()).unwrap_or(default)
}
