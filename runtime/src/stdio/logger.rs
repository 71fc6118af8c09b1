//! Logging programs: `binary:///path/of/program?key=value`.
//!
//! The program gets stdout and stderr to read as descriptors 3 and 4, and
//! closes descriptor 5 when it is ready (containerd's docs/runtime-v2.md,
//! "Logging"). A program of `binary-v2` writes a byte there first; without the
//! byte it has failed, while to `binary` that means ready, too. It ends when both
//! streams do.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use percent_encoding::percent_decode_str;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::StdioError;

/// How long the program may take to be ready; containerd's own limit.
const READY: Duration = Duration::from_secs(10);

/// Schemes of URIs that name a program.
const BINARY: &str = "binary";
const BINARY_V2: &str = "binary-v2";

/// Whether a URI names a program.
pub(super) fn is_one(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(scheme, _)| [BINARY, BINARY_V2].contains(&scheme))
}

/// Starts the program of `stdout` for the process `id`, and returns its
/// inputs.
pub(super) async fn start(
    id: &str,
    stdout: &str,
    namespace: &str,
) -> Result<(pipe::Sender, pipe::Sender), StdioError> {
    let (scheme, uri) = stdout.split_once("://").unwrap_or_default();
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let path = PathBuf::from(decode(path));
    let says_so = scheme == BINARY_V2;
    run(&path, query, says_so, id, namespace).await.map_err(|source| StdioError::Open {
        stream: "stdout",
        path,
        source,
    })
}

/// `says_so`: the program writes a byte when it is ready.
async fn run(
    path: &Path,
    query: &str,
    says_so: bool,
    id: &str,
    namespace: &str,
) -> io::Result<(pipe::Sender, pipe::Sender)> {
    let (stdout_read, stdout) = io::pipe()?;
    let (stderr_read, stderr) = io::pipe()?;
    let (ready, ready_write) = io::pipe()?;
    let mapping = |fd: OwnedFd, child_fd| FdMapping { parent_fd: fd, child_fd };
    let mut command = Command::new(path);
    command
        .args(arguments(query))
        .env_clear()
        .env("CONTAINER_ID", id)
        .env("CONTAINER_NAMESPACE", namespace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .fd_mappings(vec![
            mapping(stdout_read.into(), 3),
            mapping(stderr_read.into(), 4),
            mapping(ready_write.into(), 5),
        ])
        .map_err(io::Error::other)?;
    let child = command.spawn()?;
    // Closes the child's ends, which only the child may hold.
    drop(command);
    let answer = timeout(READY, is_ready(ready.into(), says_so)).await;
    let sinks = [stdout, stderr].map(|pipe| pipe::Sender::from_owned_fd(pipe.into())).into();
    match (answer, sinks) {
        (Ok(Ok(())), (Ok(stdout), Ok(stderr))) => {
            reap(child);
            Ok((stdout, stderr))
        }
        (Ok(Err(error)), _) | (_, (Err(error), _) | (_, Err(error))) => Err(end(child, error)),
        (Err(_), _) => Err(end(child, io::Error::other("it does not become ready"))),
    }
}

async fn is_ready(ready: OwnedFd, says_so: bool) -> io::Result<()> {
    match pipe::Receiver::from_owned_fd(ready)?.read(&mut [0]).await? {
        0 if says_so => {
            Err(io::Error::other("it ended, or closed descriptor 5, before it was ready"))
        }
        _ => Ok(()),
    }
}

fn end(mut child: Child, error: io::Error) -> io::Error {
    let _ = child.kill();
    let _ = child.wait();
    error
}

/// It ends after its streams, and may take its time.
fn reap(mut child: Child) {
    let reaper = std::thread::Builder::new().name("logger".into()).stack_size(64 * 1024);
    if let Err(error) = reaper.spawn(move || child.wait()) {
        tracing::warn!("cannot reap a logging program: {error}");
    }
}

/// `a=b&c` becomes `a b c`, as containerd does.
fn arguments(query: &str) -> Vec<String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .flat_map(|pair| match pair.split_once('=') {
            Some((key, value)) => vec![decode(key), decode(value)],
            None => vec![decode(pair)],
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// Undoes `%2F` and `+`.
fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
