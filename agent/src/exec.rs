//! Runs a process in a container: the agent's side.
//!
//! The agent executes itself once more (see [`child`]) and does not fork: the
//! process is visible in the container's pid namespace before it becomes its
//! program, and a container with CAP_SYS_PTRACE could read from a copy of the
//! agent what other containers of the pod have in their environments. The
//! process is a grandchild, and comes to process 1 when the child ends.

pub mod child;
mod error;
mod schedule;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net;

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::net::{UnixDatagram, UnixStream};

use crate::container::Container;
use crate::create::{Console, Launch};
use crate::error::CallError;
use crate::process::Process;
use crate::reaper::Reaper;
use crate::spec::{guest_uid, prepare_exec};
use crate::stdio::Wanted;

/// First argument of the child. Numbers of descriptors follow: of the order, of
/// the socket for reports and, for a process on a terminal, of that for it.
pub const COMMAND: &str = "exec";

/// Runs the process that `json` describes. Returns when it has become its
/// program; after a failure nothing is left of it.
pub async fn exec(
    container: &Container,
    json: &[u8],
    wanted: Wanted,
    reaper: &Reaper,
) -> Result<Process, CallError> {
    let template = container.template();
    let process = prepare_exec(template, json, wanted)?;
    let failed = || CallError::io("prepare the process");
    let order = serde_json::to_vec(&(container.init().pid(), &process, &template.linux));
    let order = write_order(&order.map_err(io::Error::other).map_err(failed())?);
    let (report, reporter) = datagrams().map_err(failed())?;
    let mut inherited = vec![order.map_err(failed())?, reporter];
    let mut console = None;
    if wanted.terminal {
        let (stream, end) = streams().map_err(failed())?;
        console = Some(Console::Stream(stream));
        inherited.push(end);
    }
    let numbers: Vec<_> = inherited.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let arguments = [COMMAND].into_iter().chain(numbers.iter().map(String::as_str));
    let launch = Launch {
        arguments: &arguments.map(OsStr::new).collect::<Vec<_>>(),
        inherited,
        report,
        console,
        // The child sets it before the program begins.
        console_size: None,
        uid: guest_uid(&template.linux, process.user().uid()),
        wanted,
    };
    Ok(launch.run(reaper).await?)
}

fn write_order(json: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("exec", MemfdFlags::CLOEXEC)?);
    file.write_all(json)?;
    file.rewind()?;
    Ok(file.into())
}

fn datagrams() -> io::Result<(UnixDatagram, OwnedFd)> {
    let (own, other) = net::UnixDatagram::pair()?;
    own.set_nonblocking(true)?;
    Ok((UnixDatagram::from_std(own)?, other.into()))
}

fn streams() -> io::Result<(UnixStream, OwnedFd)> {
    let (own, other) = net::UnixStream::pair()?;
    own.set_nonblocking(true)?;
    Ok((UnixStream::from_std(own)?, other.into()))
}
