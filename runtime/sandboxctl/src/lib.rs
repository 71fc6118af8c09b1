//! `sandboxctl`: looks at a host and at its sandboxes.

mod list;
mod net;
mod pod;
mod policy;
mod show;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use sandbox_runtime::doctor::{self, Host};
use sandbox_runtime::{Config, chain, choose};
use tracing_subscriber::filter::LevelFilter;

/// Looks at this host and at its sandboxes.
///
/// The configuration is /etc/sandbox/config.toml, or what the environment's
/// SANDBOX_CONFIG names.
#[derive(Parser)]
#[command(name = "sandboxctl", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What this host has, what it lacks, and how to get it. Exits with 1 when sandboxes cannot run.
    Doctor(Output),
    /// The sandboxes that run on this host.
    List(Output),
    /// What a sandbox's network does.
    #[command(subcommand)]
    Net(net::Command),
    /// Network policies: checks them, explains them, puts them in force; docs/policy.md describes them.
    #[command(subcommand)]
    Policy(policy::Command),
}

#[derive(Args)]
struct Output {
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // The library's warnings are shown on request: the command reports its own errors.
    let level = sandbox_runtime::log_level(LevelFilter::OFF);
    tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).init();
    let outcome = match Cli::parse().command {
        Command::Doctor(output) => doctor(&output),
        Command::List(output) => list::run(output.json).map(|()| ExitCode::SUCCESS),
        Command::Net(command) => net::run(&command).map(|()| ExitCode::SUCCESS),
        Command::Policy(command) => policy::run(&command),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("sandboxctl: {}", chain(&*error));
        ExitCode::FAILURE
    })
}

/// The commands and flags, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

fn doctor(output: &Output) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let report = doctor::examine(&Host::this(), Config::load(), |config| match choose(config) {
        Ok(chosen) => Ok((chosen.name().to_owned(), chosen.reason)),
        Err(error) => Err(chain(&error)),
    });
    let text = if output.json { format!("{:#}\n", report.json()) } else { report.text() };
    print(&text)?;
    Ok(if report.is_ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A reader that closes its end early is no failure.
fn print(text: &str) -> io::Result<()> {
    write(text).map(drop)
}

/// As [`print`]; returns whether the reader has closed its end.
fn write(text: &str) -> io::Result<bool> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        written => written.map(|()| false),
    }
}
