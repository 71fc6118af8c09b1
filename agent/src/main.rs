//! `/init` of the guest. As process 1 it is the agent; otherwise only the agent
//! itself starts it, to create one container (see `sandbox_agent::create`), to
//! run a process in one (see `sandbox_agent::exec`), or as a tool that
//! libcontainer looks for (see `sandbox_agent::create::id_map`).

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use sandbox_agent::{boot, create, exec};

/// `EX_USAGE` of `sysexits.h`.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot::run();
    }
    let mut args = std::env::args_os();
    if let Some(file) = args.next().as_deref().and_then(create::id_map::file) {
        return create::id_map::run(file, args);
    }
    match (args.next().as_deref(), args.next(), args.next()) {
        (Some(command), Some(bundle), None) if command == OsStr::new(create::COMMAND) => {
            create::child::run(Path::new(&bundle))
        }
        (Some(command), Some(bundle), Some(init)) if command == OsStr::new(exec::COMMAND) => {
            exec::child::run(Path::new(&bundle), &init)
        }
        _ => {
            eprintln!("sandbox-agent is process 1 of a sandbox's guest and does nothing elsewhere");
            ExitCode::from(EX_USAGE)
        }
    }
}
