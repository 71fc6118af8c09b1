//! `containerd-shim-sandbox-v1`: containerd's runtime `io.sandbox.v1`, a microVM
//! for each container or pod.

#![forbid(unsafe_code)]

mod bootstrap;
mod bundle;
mod daemon;
mod delete;
mod error;
mod event;
mod flags;
mod info;
#[cfg(feature = "kill-points")]
mod killing;
mod ledger;
/// Messages of `proto/`, generated.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod messages {
    include!(concat!(env!("OUT_DIR"), "/proto/mod.rs"));
}
mod metrics;
mod mounts;
mod options;
mod outbox;
mod payload;
mod sandbox;
mod service;
mod sink;
mod socket;
mod start;
mod task;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use flags::{Action, Flags};

fn main() -> ExitCode {
    match flags::parse(std::env::args_os().skip(1))
        .map_err(Into::into)
        .and_then(|flags| run(&flags))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {}", info::RUNTIME, sandbox_runtime::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
    if flags.version {
        return Ok(info::version(io::stdout())?);
    }
    if flags.info {
        return Ok(info::run(io::stdin(), io::stdout())?);
    }
    match flags.action {
        Action::Start => Ok(start::run(flags)?),
        Action::Delete => Ok(delete::run(flags)?),
        Action::Serve => Ok(daemon::run(flags)?),
    }
}
