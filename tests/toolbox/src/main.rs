//! What the tests run inside containers where busybox has no such tool: one
//! static program, `toolbox <tool> <arguments>`.

mod crash;
mod digest;
mod files;
mod memory;
mod vsock;

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toolbox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["sha256"] => digest::stdin_sum(),
        ["pour", bytes] => digest::pour(bytes.parse()?),
        ["eat", mib] => memory::eat(mib.parse()?),
        ["files", dir] => files::check(dir.as_ref()),
        ["swap", dir, outside] => files::swap(dir.as_ref(), outside.as_ref()),
        ["vsock", cid, port] => vsock::connect(cid.parse()?, port.parse()?),
        ["crash-init"] => crash::crash_init(),
        ["reboot"] => crash::reboot_machine(),
        _ => bail!("no such tool: {words:?}"),
    }
}
