//! `/init` of the guest. Process 1 is the agent. The agent starts the same
//! program to create a container (`sandbox_agent::create`) and to run a process
//! in one (`sandbox_agent::exec`); libcontainer starts it as `newuidmap`
//! (`sandbox_agent::create::id_map`).

use std::ffi::OsString;
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
    match args.collect::<Vec<OsString>>().as_slice() {
        [command, bundle] if command == create::COMMAND => create::child::run(Path::new(bundle)),
        [command, numbers @ ..] if command == exec::COMMAND => exec::child::run(numbers),
        _ => {
            eprintln!("sandbox-agent runs as process 1 of a sandbox's guest only");
            ExitCode::from(EX_USAGE)
        }
    }
}
