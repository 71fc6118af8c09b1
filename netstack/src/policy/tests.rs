#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod decisions;
mod documented;
mod edges;
mod explanations;
mod files;
mod names;
mod properties;
mod size;

use std::net::IpAddr;
use std::sync::Arc;

use super::*;

/// The file of a tier.
fn layer(text: &str) -> Layer {
    Layer::Read(Arc::new(toml::from_str(text).unwrap()))
}

/// The policy of a pod with this file, on a node without one.
fn pod(text: &str) -> Policy {
    Policy::new(&Layer::Unset, &layer(text), place(), 1)
}

fn both(node: &str, pod: &str) -> Policy {
    Policy::new(&layer(node), &layer(pod), place(), 1)
}

/// A pod in a cluster: the node has 192.168.7.1, the resolver is 10.96.0.10.
fn place() -> Place {
    Place {
        host: vec![ip("192.168.7.1"), ip("2001:db8:7::1")],
        resolvers: vec![ip("10.96.0.10")],
        cluster: vec!["10.96.0.0/12".parse().unwrap()],
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// `tcp 192.0.2.1 443` on the way out.
fn egress(text: &str) -> Flow {
    flow(Direction::Egress, text)
}

fn ingress(text: &str) -> Flow {
    flow(Direction::Ingress, text)
}

fn flow(direction: Direction, text: &str) -> Flow {
    let words: Vec<_> = text.split_whitespace().collect();
    let protocol = match words[0] {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => Protocol::Icmp,
    };
    let port = words.get(2).map_or(0, |word| word.parse().unwrap());
    Flow { direction, protocol, peer: ip(words[1]), port }
}

/// Names that live: each asked one with its aliases behind it.
fn names(known: &[&[&str]]) -> Names {
    let one = |all: &&[&str]| Known {
        asked: name(all[0]),
        chain: all[1..].iter().map(|alias| name(alias)).collect(),
    };
    Names { live: known.iter().map(one).collect(), has_expired: false }
}

/// `allow` or `deny`, the rule if any, and the reason.
fn said(verdict: &Verdict) -> String {
    let word = if verdict.is_allow() { "allow" } else { "deny" };
    let ground = verdict.ground();
    match &ground.rule {
        Some(rule) => format!("{word} {} {rule} {}", ground.tier, ground.reason),
        None => format!("{word} {} {}", ground.tier, ground.reason),
    }
}
