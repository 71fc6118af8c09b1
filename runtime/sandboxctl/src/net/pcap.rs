use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use sandbox_runtime::network::{Client, ClientError};
use sandbox_vm_spec::network::{Reply, Request};

use super::Outcome;

#[cfg(test)]
#[path = "pcap/tests.rs"]
mod tests;

#[derive(Args)]
pub struct Options {
    /// The sandbox: its id, or namespace/id as `sandboxctl list` shows them.
    pub pod: String,
    /// Write to this file, which only you can read; without it, to standard
    /// output: `sandboxctl net pcap POD | tcpdump -nr -`.
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Keep this many bytes of each frame.
    #[arg(short, long, default_value_t = 65_550, value_parser = clap::value_parser!(u32).range(64..=65_550))]
    snap: u32,
}

/// A capture that cannot go on.
#[derive(Debug, thiserror::Error)]
enum CaptureError {
    #[error(
        "a capture is not text: write it to a file with --write FILE, or pipe it into a program, \
         as in `sandboxctl net pcap POD | tcpdump -nr -`"
    )]
    Terminal,
    #[error("cannot write {path}", path = .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("the network process of the sandbox sends what is no capture")]
    NotOne,
}

/// Captures until the sandbox ends or the reader closes its end.
pub fn run(client: &mut Client, options: &Options) -> Outcome {
    let request = Request::Capture { snap: options.snap };
    let mut lost = |count| eprintln!("sandboxctl: {count} frames were too many and are missing");
    match &options.write {
        Some(path) => {
            let failed = |error| CaptureError::File(path.clone(), error);
            capture(client, &request, &mut create(path).map_err(failed)?, &mut lost)
        }
        None if io::stdout().is_terminal() => Err(CaptureError::Terminal.into()),
        None => capture(client, &request, &mut io::stdout(), &mut lost),
    }
}

/// Readable by root alone: frames hold passwords.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn capture(
    client: &mut Client,
    request: &Request,
    to: &mut impl Write,
    lost_some: &mut dyn FnMut(u64),
) -> Outcome {
    let mut reply = client.ask(request)?;
    // A link may be silent for as long as it likes.
    client.wait_for_ever()?;
    loop {
        let Reply::Captured { pcapng, lost } = reply else {
            return Err(ClientError::Odd.into());
        };
        let bytes = STANDARD.decode(pcapng).map_err(|_| CaptureError::NotOne)?;
        match to.write_all(&bytes).and_then(|()| to.flush()) {
            // Who reads has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
        if lost > 0 {
            lost_some(lost);
        }
        reply = match client.answer() {
            Err(ClientError::Silent { source, .. })
                if source.kind() == io::ErrorKind::UnexpectedEof =>
            {
                return Ok(());
            }
            answer => answer?,
        };
    }
}
