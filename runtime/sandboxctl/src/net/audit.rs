//! The lines of a pod's audit, which its network process writes.

mod line;
mod tail;

use std::io;
use std::thread;
use std::time::Duration;

use clap::Args;
use sandbox_runtime::Config;
use sandbox_runtime::network::pod_audit;

use super::Outcome;
use crate::{pod, write};
use line::Line;
use tail::Tail;

/// How often to look for new lines.
const PERIOD: Duration = Duration::from_millis(200);

#[derive(Args)]
pub struct Options {
    /// The sandbox: its id, or namespace/id as `sandboxctl list` shows them.
    pod: String,
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines of those that are there.
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<usize>,
    /// Only what was not allowed.
    #[arg(long)]
    denied: bool,
    /// Print the lines of JSON as they are, for programs.
    #[arg(long)]
    json: bool,
}

/// Shows the lines that are there, and those that come.
pub fn run(config: &Config, options: &Options) -> Outcome {
    let id = pod::find(config, &options.pod)?;
    let mut tail = Tail::new(pod_audit(config, &id));
    let mut shown = text(&tail.read()?, options, options.lines)?;
    loop {
        if write(&shown)? || !options.follow {
            return Ok(());
        }
        thread::sleep(PERIOD);
        // The pod's end takes its files away.
        let lines = match tail.read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            lines => lines?,
        };
        shown = text(&lines, options, None)?;
    }
}

fn text(lines: &[String], options: &Options, last: Option<usize>) -> serde_json::Result<String> {
    let read = lines.iter().map(|line| Line::read(line));
    let wanted: Vec<Line> = read.filter(|line| !options.denied || !line.is_allowed()).collect();
    let skipped = last.map_or(0, |last| wanted.len().saturating_sub(last));
    wanted[skipped..].iter().map(|line| line.text(options.json)).collect()
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
