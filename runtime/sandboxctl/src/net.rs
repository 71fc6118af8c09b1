//! What a pod's network does, asked of the pod's own process.

mod audit;
mod counters;
mod dns;
mod flows;
mod listeners;
mod pcap;

use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use sandbox_runtime::Config;
use sandbox_runtime::network::Client;

use crate::pod;

/// How often what is shown is asked anew.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub enum Command {
    /// The flows that are open: ends, names, bytes, times, and the rule that allowed each.
    Flows(Live),
    /// What the guest listens on, where that is bound on the host, and what is not, and why.
    Listeners(Still),
    /// The verdicts: what was allowed, denied or blocked, when, and by which rule.
    Audit(audit::Options),
    /// The names that DNS servers of the pod gave addresses, as name rules know them.
    Dns(Still),
    /// The counters: what was dropped, refused or lost, and how often.
    Counters(Still),
    /// The frames on the pod's link, as pcapng for wireshark and tcpdump.
    Pcap(pcap::Options),
}

/// A view of now.
#[derive(Args)]
pub struct Still {
    /// The sandbox: its id, or namespace/id as `sandboxctl list` shows them.
    pod: String,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// A view that can be kept up to date.
#[derive(Args)]
pub struct Live {
    #[command(flatten)]
    still: Still,
    /// Go on, once a second; JSON has a line for each time.
    #[arg(short, long)]
    follow: bool,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Does what was asked.
pub fn run(command: &Command) -> Outcome {
    let config = Config::load()?;
    match command {
        Command::Flows(Live { still, follow }) => {
            let mut client = connect(&config, &still.pod)?;
            loop {
                let text = flows::text(&mut client, still.json, *follow)?;
                let ended = super::write(&text)?;
                if !follow || ended {
                    return Ok(());
                }
                thread::sleep(PERIOD);
            }
        }
        Command::Listeners(still) => {
            let mut client = connect(&config, &still.pod)?;
            super::print(&listeners::text(&mut client, still.json)?)?;
            Ok(())
        }
        Command::Audit(options) => audit::run(&config, options),
        Command::Dns(still) => {
            let mut client = connect(&config, &still.pod)?;
            super::print(&dns::text(&mut client, still.json)?)?;
            Ok(())
        }
        Command::Counters(still) => {
            let mut client = connect(&config, &still.pod)?;
            super::print(&counters::text(&mut client, still.json)?)?;
            Ok(())
        }
        Command::Pcap(options) => pcap::run(&mut connect(&config, &options.pod)?, options),
    }
}

fn connect(config: &Config, asked: &str) -> Result<Client, Box<dyn std::error::Error>> {
    Ok(Client::of_pod(config, &pod::find(config, asked)?)?)
}

/// What a flow or an address is called: the first name, and how many more.
fn called(names: &[String]) -> String {
    match names {
        [] => "-".to_owned(),
        [name] => crate::show::plain(name),
        [name, more @ ..] => format!("{} +{}", crate::show::plain(name), more.len()),
    }
}
