#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod answers;
mod bindings;
mod messages;
mod queries;
mod streams;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::policy::{Direction, Flow, Layer, Place, Policy, Protocol, Verdict};
use wire::*;

const CHANNEL: Channel = Channel(7);

fn server() -> SocketAddr {
    "10.96.0.10:53".parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn policy(rules: &str) -> Policy {
    let text =
        format!("version = 1\ndefaults = {{ egress = \"deny\", ingress = \"deny\" }}\n{rules}");
    let layer = Layer::Read(Arc::new(toml::from_str(&text).unwrap()));
    let place = Place { resolvers: vec![server().ip()], ..Place::default() };
    Policy::new(&Layer::Unset, &layer, place, 1)
}

/// A rule that allows this name on port 443.
fn allow(name: &str) -> String {
    format!(
        "[[rule]]\nid = \"{name}\"\ndir = \"egress\"\naction = \"allow\"\nproto = [\"tcp\"]\n\
         ports = [443]\nname = [\"{name}\"]\n"
    )
}

/// An observer with its policy and clock.
struct Bench {
    observer: Observer,
    policy: Policy,
    now: Duration,
}

impl Bench {
    fn new(rules: &str) -> Self {
        let now = Duration::from_secs(1000);
        Self { observer: Observer::new(), policy: policy(rules), now }
    }

    fn ask(&mut self, message: &[u8]) -> FromGuest {
        self.observer.from_guest(&self.policy, CHANNEL, server(), message, self.now)
    }

    fn tell(&mut self, message: &[u8]) -> FromServer {
        self.observer.from_server(&self.policy, CHANNEL, server(), message, self.now)
    }

    /// Asks and has it answered by these records.
    fn resolve(&mut self, name: &str, kind: u16, records: &[Record]) -> FromServer {
        assert_eq!(self.ask(&query(1, name, kind)), FromGuest::Forward);
        self.tell(&answer(1, name, kind, records))
    }

    /// What a connection to port 443 of this address comes to.
    fn dial(&mut self, address: &str) -> String {
        let names = self.observer.names(ip(address), self.now);
        let (direction, protocol) = (Direction::Egress, Protocol::Tcp);
        let flow = Flow { direction, protocol, peer: ip(address), port: 443 };
        match self.policy.decide(&flow, &names) {
            Verdict::Allow(permit) => format!("allow {}", permit.ground().reason),
            Verdict::Deny(denial) => format!("deny {}", denial.ground.reason),
        }
    }
}
