//! Marks on the guest's console, which show how far a failed boot came.

use std::fmt::Display;
use std::io::Write;

/// Writes `sandbox-agent: <stage>` to the console in one piece. Keep stages
/// short: on some machines every character costs an exit to the VMM.
pub fn mark(stage: impl Display) {
    let line = format!("sandbox-agent: {stage}\n");
    // A console that takes nothing must not stop the boot.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
