//! Runs a process in a container that is there: the agent's side.
//!
//! As for a creation the agent executes itself once more (see [`child`]): what
//! enters the container's namespaces must have one thread and none of the
//! agent's descriptors. The process is a grandchild, and comes to process 1
//! when the child ends.

pub mod child;
mod schedule;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use oci_spec::runtime::Spec;

use crate::container::Container;
use crate::create::{launch, write_bundle};
use crate::error::Error;
use crate::paths;
use crate::process::Process;
use crate::reaper::Reaper;
use crate::spec;
use crate::stdio::Wanted;

/// First argument of the child.
pub const COMMAND: &str = "exec";

/// Numbers the folders, whose names are free of what the host chooses.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Runs the process that `json` describes. Answers when it has become its
/// program; when that fails nothing is left of it.
pub async fn exec(
    container: &Container,
    json: &[u8],
    wanted: Wanted,
    reaper: &Reaper,
) -> Result<Process, Error> {
    let of_container = read_spec(container.id()).map_err(Error::io("reading the bundle"))?;
    let prepared = spec::prepare_exec(of_container, json, wanted)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = Folder(Path::new(paths::EXEC_DIR).join(number.to_string()));
    write_bundle(&folder.0, &prepared)?;
    let init = container.init().pid().to_string();
    let arguments = [OsStr::new(COMMAND), folder.0.as_os_str(), OsStr::new(&init)];
    Ok(launch(&arguments, &folder.0, &prepared, wanted, reaper).await?)
}

/// The spec that the container was made from.
fn read_spec(id: &str) -> io::Result<Spec> {
    let json = fs::read(paths::bundle(id).join(paths::CONFIG))?;
    serde_json::from_slice(&json).map_err(io::Error::other)
}

/// Goes when it is dropped, with what is in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left costs a few kilobytes of the guest's memory.
        let _ = fs::remove_dir_all(&self.0);
    }
}
