//! Whether `/dev/kvm` can run a guest.

use std::io::{self, Write};

/// The verdict could not be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// stdout is closed.
    #[error("cannot print the verdict")]
    Print(#[source] io::Error),
}

/// Prints the verdict as one line of JSON.
pub fn run() -> Result<(), Error> {
    let verdict = r#"{"usable":false,"reason":"this build of sandbox-vmm has no kvm engine"}"#;
    writeln!(io::stdout(), "{verdict}").map_err(Error::Print)
}
