use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::class::ClassName;
use super::{Cidr, Direction, Pattern, Ports, Protocol};

/// A policy file, in TOML or JSON: `docs/policy.md` has the schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Of the schema: 1.
    pub version: u32,
    /// What holds where no rule matches.
    #[serde(default)]
    pub defaults: Defaults,
    /// The DNS servers that names are learnt from, and limits.
    #[serde(default)]
    pub dns: Dns,
    /// Networks by a name of the file's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, Vec<Cidr>>,
    /// The rules; the first that matches decides.
    #[serde(default, rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stance {
    /// No: what is not allowed is denied.
    #[default]
    Deny,
    /// Yes.
    Allow,
}

/// How a refusal is reported to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DenyMode {
    /// That it is refused: a reset, or an ICMP error.
    #[default]
    Reject,
    /// Nothing.
    Drop,
}

/// What decides on an echo that no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Echo {
    /// The default of its direction, as for everything else.
    #[default]
    Rules,
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
}

/// What holds where no rule matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// For what the guest begins.
    pub egress: Stance,
    /// For what is begun towards the guest.
    pub ingress: Stance,
    /// How a refusal is reported.
    pub deny_mode: DenyMode,
    /// For ICMP echo.
    pub icmp_echo: Echo,
}

/// The DNS servers that names are learnt from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ResolversText", into = "ResolversText")]
pub enum Resolvers {
    /// The servers that the pod was given.
    #[default]
    Pod,
    /// These.
    Listed(Vec<IpAddr>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "resolvers is \"pod\" or a list of addresses")]
enum ResolversText {
    Word(String),
    List(Vec<IpAddr>),
}

impl TryFrom<ResolversText> for Resolvers {
    type Error = String;

    fn try_from(text: ResolversText) -> Result<Self, String> {
        match text {
            ResolversText::Word(word) if word == "pod" => Ok(Self::Pod),
            ResolversText::Word(word) => {
                Err(format!("resolvers is \"pod\" or a list of addresses, not `{word:.64}`"))
            }
            ResolversText::List(list) => Ok(Self::Listed(list)),
        }
    }
}

impl From<Resolvers> for ResolversText {
    fn from(resolvers: Resolvers) -> Self {
        match resolvers {
            Resolvers::Pod => Self::Word("pod".to_owned()),
            Resolvers::Listed(list) => Self::List(list),
        }
    }
}

/// What becomes of DNS with servers that are not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Other {
    /// It is denied.
    Deny,
    /// The rules decide, as on everything else.
    Rules,
}

/// How a query for a name that cannot be allowed is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockAnswer {
    /// There is no such name.
    #[default]
    Nxdomain,
    /// The server will not say.
    Refused,
}

/// The DNS servers that names are learnt from, and limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// The servers that names are learnt from.
    pub resolvers: Resolvers,
    /// DNS with other servers; without a word, `deny` where a rule has names
    /// and `rules` where none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<Other>,
    /// Least lifetime of a binding in seconds, whatever the answer's TTL.
    pub min_ttl: u32,
    /// Most seconds that a binding lives.
    pub max_ttl: u32,
    /// Seconds that a binding lives on after that: programs keep addresses.
    pub grace: u32,
    /// Names that may lead to addresses inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub private_names: Vec<Pattern>,
    /// How a query for a name that cannot be allowed is answered.
    pub block_answer: BlockAnswer,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            resolvers: Resolvers::Pod,
            other: None,
            min_ttl: 30,
            max_ttl: 3600,
            grace: 300,
            private_names: vec![],
            block_answer: BlockAnswer::Nxdomain,
        }
    }
}

/// What a rule does with a flow that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is allowed.
    Allow,
    /// It is denied.
    Deny,
    /// The next tier decides.
    Pass,
}

/// Whether the server name of a TLS handshake is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sni {
    /// It is not looked at.
    #[default]
    Off,
    /// It must be the name that was allowed.
    Check,
}

impl Sni {
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// A rule. Every key that is set must match; of a list, one entry; a key that
/// is not set matches anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called in the audit.
    pub id: String,
    /// Which flows.
    pub dir: Direction,
    /// What becomes of them.
    pub action: Action,
    /// Whether each verdict is in the audit, and not only in sums.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// What is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<Vec<Protocol>>,
    /// The port that is dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Ports>>,
    /// The peer's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Vec<Cidr>>,
    /// Networks inside of `cidr` that are not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<Vec<Cidr>>,
    /// The peer's kind of address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Vec<ClassName>>,
    /// The name by which the pod knows the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Vec<Pattern>>,
    /// Whether the server name of a TLS handshake is compared.
    #[serde(default, skip_serializing_if = "Sni::is_off")]
    pub sni: Sni,
}
