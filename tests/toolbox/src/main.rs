//! What the tests run inside containers where busybox has no such tool: one
//! static program, `toolbox <tool> <arguments>`.

use std::process::ExitCode;

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

fn run(words: &[&str]) -> anyhow::Result<()> {
    match words {
        ["sha256"] => digest::stdin_sum(),
        ["pour", bytes] => digest::pour(bytes.parse()?),
        _ => anyhow::bail!("no such tool: {words:?}"),
    }
}

mod digest;
