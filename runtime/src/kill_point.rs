//! Named points at which tests end the shim, or hold it up, to see what is left
//! of it. In a build without the feature `kill-points` they are nothing.

/// Names a file. The process that reaches the point whose name is in it removes
/// it, and is ended as by SIGKILL; after `hold ` it is renamed to end in
/// `.held`, and the process waits until that is removed.
pub const VARIABLE: &str = "SANDBOX_KILL_AT";

/// Ends the process here, or holds it up, if that is what a test wants.
#[cfg(feature = "kill-points")]
pub fn reach(point: &str) {
    let Some(file) = std::env::var_os(VARIABLE).map(std::path::PathBuf::from) else { return };
    let wanted = std::fs::read_to_string(&file).unwrap_or_default();
    let held = file.with_extension("held");
    // Of several that come at once, one.
    if wanted == point && std::fs::remove_file(&file).is_ok() {
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    } else if wanted.strip_prefix("hold ") == Some(point) && std::fs::rename(&file, &held).is_ok() {
        while held.exists() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// Nothing.
#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub fn reach(_: &str) {}
