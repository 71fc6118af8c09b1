//! The walls of the design: what may depend on what, and what source may hold.
//! Reads `cargo metadata` and the files of the tree; builds and runs nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dependencies;
mod docs;
mod graph;
mod hosts;
mod modules;
mod parts;
mod requirements;
mod source;

use std::path::PathBuf;

/// The tree that this test was built from.
fn tree() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Fails with every offence at once, so that one run shows the whole list.
fn none(offences: Vec<String>, rule: &str) {
    assert!(offences.is_empty(), "{rule}\n  {}", offences.join("\n  "));
}
