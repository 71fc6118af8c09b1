use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use sandbox_netstack::policy::{
    Destination, Document, Explanation, Layer, Place, Policy, Protocol, ReadError,
};

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
    /// Whether a pod with this policy would reach a destination, and which rule says so.
    Explain(Explain),
}

#[derive(Args)]
pub struct Explain {
    /// The pod's policy file.
    file: PathBuf,
    /// Where to: api.example.com:443, 192.0.2.1:443 or [2001:db8::1]:443.
    destination: Destination,
    /// The node's policy file.
    #[arg(long)]
    node: Option<PathBuf>,
    /// The address that the name leads to.
    #[arg(long)]
    at: Option<IpAddr>,
    /// What is spoken: tcp, udp or icmp.
    #[arg(long, default_value = "tcp", value_parser = protocol)]
    proto: Protocol,
    /// An address of the node itself; may be given more than once.
    #[arg(long)]
    host: Vec<IpAddr>,
    /// A DNS server that the pod is given; may be given more than once.
    #[arg(long)]
    resolver: Vec<IpAddr>,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let known = Protocol::ALL.iter().find(|known| known.to_string() == text);
    known.copied().ok_or_else(|| "write tcp, udp or icmp".to_owned())
}

/// Does what was asked.
pub fn run(command: &Command) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match command {
        Command::Check { files } => {
            let (text, is_good) = check(files);
            super::print(&text)?;
            Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Explain(question) => {
            let told = explain(question)?;
            let text = match question.json {
                true => format!("{}\n", serde_json::to_string_pretty(&told)?),
                false => format!("{}\n", told.text),
            };
            super::print(&text)?;
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

fn explain(question: &Explain) -> Result<Explanation, ReadError> {
    let layer = |path: &PathBuf| {
        Document::read(path).map(|(_, loaded)| Layer::Read(loaded.document.into()))
    };
    let pod = layer(&question.file)?;
    let node = question.node.as_ref().map(layer).transpose()?.unwrap_or_default();
    let place = Place {
        host: question.host.clone(),
        resolvers: question.resolver.clone(),
        ..Place::default()
    };
    let policy = Policy::new(&node, &pod, place, 1);
    Ok(policy.explain(question.proto, &question.destination, question.at))
}
