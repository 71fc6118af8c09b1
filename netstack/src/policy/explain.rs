use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use super::{Direction, Flow, Ground, Known, Name, Names, Policy, Protocol, Reason, Tier, Verdict};

/// Documentation addresses (RFC 5737): one stands for what a
/// name may lead to.
const NOBODYS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(203, 0, 113, 254),
    Ipv4Addr::new(198, 51, 100, 254),
    Ipv4Addr::new(192, 0, 2, 254),
];

/// Where a pod would go: `api.example.com:443`, `192.0.2.1:443` or
/// `[2001:db8::1]:443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The name or the address.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// A name, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name, which is asked first.
    Name(Name),
    /// An address, dialled without asking.
    Address(IpAddr),
}

/// Text that is not a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid destination `{0}`: write api.example.com:443, 192.0.2.1:443 or [2001:db8::1]:443")]
pub struct DestinationError(String);

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let wrong = || DestinationError(text.chars().take(300).collect());
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self { host: Host::Address(socket.ip()), port: socket.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let name = host.parse().map_err(|_| wrong())?;
        Ok(Self { host: Host::Name(name), port })
    }
}

/// As it is read.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

/// The short answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It would be reached.
    Allowed,
    /// It would not.
    Denied,
    /// That depends on the address that the name leads to.
    Depends,
}

/// Whether a pod would reach a destination, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The short answer.
    pub answer: Answer,
    /// The tier that decided.
    pub tier: Tier,
    /// The rule's id, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// Why.
    pub reason: String,
    /// The same in a sentence or two.
    pub text: String,
}

impl Policy {
    /// Answers whether the pod would reach a destination. For a name, `at` is
    /// an address that it leads to, if that is known.
    pub fn explain(
        &self,
        protocol: Protocol,
        destination: &Destination,
        at: Option<IpAddr>,
    ) -> Explanation {
        let port = destination.port;
        let flow = |peer| Flow { direction: Direction::Egress, protocol, peer, port };
        match (&destination.host, at) {
            (Host::Address(address), _) => self
                .told(&format!("{protocol} to {address} port {port}"), |policy| {
                    policy.decide(&flow(*address), &Names::default())
                }),
            (Host::Name(name), Some(address)) => {
                self.explain_known(protocol, destination, address, &of(name))
            }
            (Host::Name(name), None) => {
                self.asked(name).unwrap_or_else(|| self.somewhere(name, protocol, port))
            }
        }
    }

    /// The same for a pod that knows `address` by `names`: what a packet to it
    /// would be told now, or the query for the name before.
    pub fn explain_known(
        &self,
        protocol: Protocol,
        destination: &Destination,
        address: IpAddr,
        names: &Names,
    ) -> Explanation {
        let port = destination.port;
        let flow = Flow { direction: Direction::Egress, protocol, peer: address, port };
        let (refused, by_name) = match &destination.host {
            Host::Name(name) => (self.asked(name), format!("{name} at ")),
            Host::Address(_) => (None, String::new()),
        };
        let what = format!("{protocol} to {by_name}{address} port {port}");
        refused.unwrap_or_else(|| self.told(&what, |policy| policy.decide(&flow, names)))
    }

    /// The refusal of the query for a name, if it is refused.
    fn asked(&self, name: &Name) -> Option<Explanation> {
        let ground = self.may_ask(&Known::plain(name.clone())).err()?;
        let text = format!(
            "{name} is not even looked up: {}, so no rule could allow what it leads to. The query \
             is answered in the server's stead.",
            words(&ground)
        );
        Some(explanation(Answer::Denied, &ground, text))
    }

    /// For a name whose address is not known: as for an address of the outside
    /// that no rule lists.
    fn somewhere(&self, name: &Name, protocol: Protocol, port: u16) -> Explanation {
        let address = NOBODYS.into_iter().map(IpAddr::V4).find(|own| !self.lists(*own));
        let peer = address.unwrap_or(Ipv4Addr::new(203, 0, 113, 254).into());
        let flow = Flow { direction: Direction::Egress, protocol, peer, port };
        let verdict = self.decide(&flow, &of(name));
        let ground = verdict.ground().clone();
        let rests_on_name = ground.reason == Reason::Rule;
        let word = if verdict.is_allow() { "allowed" } else { "denied" };
        let what = format!("{protocol} to {name} port {port}");
        if !self.lists_any() || (rests_on_name && verdict.is_allow()) {
            let answer = if verdict.is_allow() { Answer::Allowed } else { Answer::Denied };
            let text = format!(
                "{what} is {word}: {}. An address inside, or one that a rule before it denies, is \
                 still refused.",
                words(&ground)
            );
            return explanation(answer, &ground, text);
        }
        let text = format!(
            "{what} depends on the address that the name leads to. At one that no rule lists it \
             is {word}: {}. Give the address to know more.",
            words(&ground)
        );
        explanation(Answer::Depends, &ground, text)
    }

    fn told(&self, what: &str, decide: impl Fn(&Self) -> Verdict) -> Explanation {
        let verdict = decide(self);
        let ground = verdict.ground();
        let (answer, word) = match verdict.is_allow() {
            true => (Answer::Allowed, "allowed"),
            false => (Answer::Denied, "denied"),
        };
        explanation(answer, ground, format!("{what} is {word}: {}.", words(ground)))
    }

    fn lists(&self, address: IpAddr) -> bool {
        [&self.node, &self.pod]
            .iter()
            .filter_map(|layer| layer.tier())
            .any(|rules| rules.lists(Some(address)))
    }

    fn lists_any(&self) -> bool {
        [&self.node, &self.pod]
            .iter()
            .filter_map(|layer| layer.tier())
            .any(|rules| rules.lists(None))
    }
}

fn of(name: &Name) -> Names {
    Names { live: Arc::new([Known::plain(name.clone())]), has_expired: false }
}

fn explanation(answer: Answer, ground: &Ground, text: String) -> Explanation {
    let (rule, reason) = (ground.rule.clone(), ground.reason.to_string());
    Explanation { answer, tier: ground.tier, rule, reason, text }
}

/// What a verdict rests on, as a clause.
fn words(ground: &Ground) -> String {
    let tier = ground.tier;
    let rule = || ground.rule.as_deref().unwrap_or("?");
    match ground.reason {
        Reason::Rule => format!("rule `{}` of the {tier}'s policy decides", rule()),
        Reason::Default if tier == Tier::System => {
            "there is no policy, and what is not closed is open".to_owned()
        }
        Reason::Default => format!("no rule matches, and it is the default of the {tier}'s policy"),
        Reason::Invalid(invalid) => {
            format!("the address is not a valid destination ({})", invalid.as_str())
        }
        Reason::System(class) => format!(
            "the address is of the class `{}`, which only a rule of the node's policy opens",
            class.as_str()
        ),
        Reason::NoName => format!(
            "no rule for addresses of the {tier}'s policy matches, and rules for names need a \
             name that a pinned server led from"
        ),
        Reason::Expired => "the name that led here has outlived its time".to_owned(),
        Reason::Rebinding => format!(
            "rule `{}` of the {tier}'s policy allows the name, but it leads to an address inside, \
             and is not among `private_names`",
            rule()
        ),
        Reason::OtherResolver => {
            format!("the {tier}'s policy denies DNS with servers that are not pinned")
        }
        Reason::Resolver => "it is a pinned DNS server, which rules for names need".to_owned(),
        Reason::Probe => "the node may ask its pods for their health".to_owned(),
        Reason::Broken => format!("the {tier}'s policy could not be read, so it allows nothing"),
    }
}
