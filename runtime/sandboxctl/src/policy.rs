mod explain;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use sandbox_netstack::policy::Document;
use sandbox_runtime::network::{Client, ClientError, set_policy};
use sandbox_runtime::{Config, PodId};
use sandbox_vm_spec::network::{PolicySource, Reply, Request};

use crate::pod;
use crate::show::{json, lines, plain};

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;

#[derive(Subcommand)]
pub enum Command {
    /// Whether policy files can be used; an error names line, key and fix. Exits with 1 for one that cannot.
    Check {
        /// The files, TOML or JSON.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Whether a pod, or one with a policy file, would reach a destination, and by which rule.
    Explain(explain::Explain),
    /// Puts a policy in force for a sandbox that runs, beside the node's.
    Set(Set),
    /// The policies in force for a sandbox.
    Show(Show),
}

#[derive(Args)]
pub struct Set {
    /// The sandbox: its id, or namespace/id as `sandboxctl list` shows them.
    pod: String,
    /// The policy file. The node's, which it cannot loosen, is read anew too.
    file: PathBuf,
    /// Also end the open flows that it does not allow.
    #[arg(long)]
    recheck: bool,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Show {
    /// The sandbox: its id, or namespace/id as `sandboxctl list` shows them.
    pod: String,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// Does what was asked.
pub fn run(command: &Command) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match command {
        Command::Check { files } => {
            let (text, is_good) = check(files);
            super::print(&text)?;
            Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Set(wish) => {
            let config = Config::load()?;
            let (text, warnings) = set(&config, &pod::find(&config, &wish.pod)?, wish)?;
            eprint!("{warnings}");
            super::print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Show(wish) => {
            let config = Config::load()?;
            let mut client = Client::of_pod(&config, &pod::find(&config, &wish.pod)?)?;
            super::print(&in_force(&mut client, wish.json)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain(question) => {
            super::print(&explain::run(question)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A line for each file and for each of its warnings, and whether all are good.
fn check(files: &[PathBuf]) -> (String, bool) {
    let mut text = String::new();
    let mut is_good = true;
    for path in files {
        match Document::read(path) {
            Ok((_, loaded)) => {
                let rules = loaded.document.rules.len();
                let plural = if rules == 1 { "" } else { "s" };
                text.push_str(&format!("{}: good, {rules} rule{plural}\n", path.display()));
                for warning in loaded.warnings {
                    text.push_str(&format!("{}: warning: {warning}\n", path.display()));
                }
            }
            Err(error) => {
                text.push_str(&format!("{}\n", sandbox_runtime::chain(&error)));
                is_good = false;
            }
        }
    }
    (text, is_good)
}

/// Text, and warnings.
fn set(
    config: &Config,
    id: &PodId,
    wish: &Set,
) -> Result<(String, String), Box<dyn std::error::Error>> {
    let (text, loaded) = Document::read(&wish.file)?;
    let warned = |warning: &_| format!("{}: warning: {warning}\n", wish.file.display());
    let warnings = loaded.warnings.iter().map(warned).collect();
    let done = set_policy(config, id, Some(&text), wish.recheck)?;
    let (generation, ended) = (done.generation, done.ended);
    if wish.json {
        let told = serde_json::json!({"generation": generation, "ended": ended});
        return Ok((json(&told, true)?, warnings));
    }
    let ended = match (wish.recheck, ended) {
        (false, _) => "; open flows go on under the policy that allowed them".to_owned(),
        (true, 0) => "; it allows every open flow".to_owned(),
        (true, 1) => "; it ended 1 open flow".to_owned(),
        (true, ended) => format!("; it ended {ended} open flows"),
    };
    Ok((format!("policy {generation} is in force{ended}\n"), warnings))
}

fn in_force(client: &mut Client, as_json: bool) -> Result<String, Box<dyn std::error::Error>> {
    let Reply::Policy { generation, node, pod } = client.ask(&Request::Policy)? else {
        return Err(ClientError::Odd.into());
    };
    if as_json {
        let told = serde_json::json!({"generation": generation, "node": node, "pod": pod});
        return Ok(json(&told, true)?);
    }
    let mut text = format!("# policy {generation} is in force\n");
    let tiers = [
        ("node", node, "everything is left to the pod's"),
        ("pod", pod, "what the node's leaves to it is open"),
    ];
    for (tier, source, unset) in tiers {
        text.push_str(&format!("\n# the {tier}'s policy:"));
        text.push_str(&match source {
            PolicySource::Unset => format!(" none, {unset}\n"),
            PolicySource::Text(text) => format!("\n{}\n", lines(&text).trim_end()),
            PolicySource::Broken(why) => {
                format!(" it cannot be read, so nothing is allowed: {}\n", plain(&why))
            }
        });
    }
    Ok(text)
}
