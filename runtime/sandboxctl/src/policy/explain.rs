use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use sandbox_netstack::policy::{
    Destination, Document, Explanation, Host, Layer, Place, Policy, Protocol, ReadError,
};
use sandbox_runtime::Config;
use sandbox_runtime::network::{Client, ClientError};
use sandbox_vm_spec::network::{OutlookRow, Reply, Request};

use crate::pod;
use crate::show::{json, lines};

#[cfg(test)]
#[path = "explain/tests.rs"]
mod tests;

#[derive(Args)]
#[command(allow_missing_positional = true)]
pub struct Explain {
    /// The sandbox: its id, or namespace/id as `sandboxctl list` shows them. What begins with / or
    /// ./, or ends in .toml or .json, is a policy file.
    #[arg(value_name = "POD", required_unless_present = "policy", conflicts_with = "policy")]
    subject: Option<String>,
    /// Where to: api.example.com:443, 192.0.2.1:443 or [2001:db8::1]:443.
    destination: Destination,
    /// A policy file, of a pod that need not run.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The address that the name leads to; without it, where it led when the pod asked for it.
    #[arg(long)]
    at: Option<IpAddr>,
    /// What is spoken: tcp, udp or icmp.
    #[arg(long, default_value = "tcp", value_parser = protocol)]
    proto: Protocol,
    #[command(flatten)]
    around: Around,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What a sandbox that runs knows itself.
#[derive(Args)]
struct Around {
    /// With a file: the node's policy file.
    #[arg(long)]
    node: Option<PathBuf>,
    /// With a file: an address of the node itself; may be given more than once.
    #[arg(long)]
    host: Vec<IpAddr>,
    /// With a file: a DNS server that the pod is given; may be given more than once.
    #[arg(long)]
    resolver: Vec<IpAddr>,
}

/// A question that cannot be answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unclear {
    /// It is about a pod, and says what only goes with a file.
    #[error(
        "--node, --host and --resolver go with a policy file; sandbox {0} has a node's policy, \
         addresses and DNS servers, and is asked for them"
    )]
    Around(String),
    /// An address leads nowhere else.
    #[error("--at is for a name, and the destination is an address already")]
    At,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let known = Protocol::ALL.iter().find(|known| known.to_string() == text);
    known.copied().ok_or_else(|| "write tcp, udp or icmp".to_owned())
}

/// Answers, in text or JSON.
pub fn run(question: &Explain) -> Result<String, Box<dyn std::error::Error>> {
    if let Some(file) = question.file() {
        let told = by_file(question, file)?;
        return Ok(match question.json {
            true => format!("{}\n", serde_json::to_string_pretty(&told)?),
            false => format!("{}\n", told.text),
        });
    }
    let subject = question.subject.as_deref().unwrap_or_default();
    question.check(subject)?;
    let config = Config::load()?;
    let mut client = Client::of_pod(&config, &pod::find(&config, subject)?)?;
    by_pod(question, &mut client)
}

impl Explain {
    /// The policy file, if it is about one. No id of a sandbox looks like a
    /// path, and which it is must not depend on what lies in the directory.
    fn file(&self) -> Option<&Path> {
        let is_path = |text: &&str| {
            ["/", "./", "../"].iter().any(|start| text.starts_with(start))
                || [".toml", ".json"].iter().any(|end| text.ends_with(end))
        };
        let named = self.subject.as_deref().filter(is_path).map(Path::new);
        self.policy.as_deref().or(named)
    }

    fn check(&self, subject: &str) -> Result<(), Unclear> {
        let Around { node, host, resolver } = &self.around;
        if node.is_some() || !host.is_empty() || !resolver.is_empty() {
            return Err(Unclear::Around(subject.to_owned()));
        }
        let is_address = matches!(self.destination.host, Host::Address(_));
        if is_address && self.at.is_some() { Err(Unclear::At) } else { Ok(()) }
    }
}

fn by_file(question: &Explain, file: &Path) -> Result<Explanation, ReadError> {
    let layer =
        |path: &Path| Document::read(path).map(|(_, loaded)| Layer::Read(loaded.document.into()));
    let pod = layer(file)?;
    let Around { node, host, resolver } = &question.around;
    let node = node.as_deref().map(layer).transpose()?.unwrap_or_default();
    let place = Place { host: host.clone(), resolvers: resolver.clone(), ..Place::default() };
    let policy = Policy::new(&node, &pod, place, 1);
    Ok(policy.explain(question.proto, &question.destination, question.at))
}

fn by_pod(question: &Explain, client: &mut Client) -> Result<String, Box<dyn std::error::Error>> {
    let request = Request::Explain {
        protocol: question.proto.to_string(),
        destination: question.destination.to_string(),
        at: question.at,
    };
    let Reply::Explained { generation, outlook } = client.ask(&request)? else {
        return Err(ClientError::Odd.into());
    };
    if question.json {
        let told = serde_json::json!({"generation": generation, "outlook": outlook});
        return Ok(json(&told, true)?);
    }
    Ok(outlook.iter().map(sentence).collect())
}

/// A row as a line, with what the pod knows and a file does not.
fn sentence(row: &OutlookRow) -> String {
    let known = match (row.address, &row.names[..]) {
        // The denial of the query explains it already.
        (None, _) if row.answer == "denied" => String::new(),
        (None, _) => " The pod has not resolved the name yet.".to_owned(),
        (Some(_), []) => String::new(),
        (Some(address), names) => format!(" The pod knows {address} as {}.", names.join(", ")),
    };
    lines(&format!("{}{known}\n", row.text))
}
