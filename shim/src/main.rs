//! `containerd-shim-sandbox-v1`: containerd's runtime `io.sandbox.v1`, a microVM
//! for each container or pod.

#![forbid(unsafe_code)]
#![allow(missing_docs)]

mod bootstrap;
mod bundle;
mod daemon;
mod delete;
mod error;
mod event;
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
mod stage;
mod start;
mod task;
mod trace;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use containerd_shim::Flags;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match containerd_shim::parse(&arguments).map_err(Into::into).and_then(|flags| run(&flags)) {
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
    match flags.action.as_str() {
        "start" => Ok(start::run(flags)?),
        "delete" => Ok(delete::run(flags)?),
        "" => Ok(daemon::run(flags)?),
        other => Err(format!(
            "invalid action {other:?}: containerd calls a shim with start or delete; \
             to run a container, use ctr run --runtime io.sandbox.v1"
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(line: &str) -> Flags {
        containerd_shim::parse(&line.split_whitespace().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn arguments_of_every_containerd_are_parsed() {
        let flags = parse(
            "-namespace default -address /run/c.sock -publish-binary /usr/bin/containerd \
             -id=web --bundle /b -debug start -id other",
        );
        assert_eq!((flags.namespace.as_str(), flags.id.as_str()), ("default", "web"));
        assert_eq!((flags.address.as_str(), flags.bundle.as_str()), ("/run/c.sock", "/b"));
        assert_eq!(flags.publish_binary, "/usr/bin/containerd");
        assert!(flags.debug && flags.action == "start");
        assert_eq!(parse("-id -dash").id, "-dash");
    }

    #[test]
    fn an_unknown_action_is_refused_with_the_command_to_use() {
        let error = run(&parse("-id web run")).unwrap_err().to_string();
        assert!(error.contains("\"run\"") && error.contains("ctr run"), "{error}");
    }
}
