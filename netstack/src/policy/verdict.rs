use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::{Class, DenyMode, Direction, Flow, Invalid, Names, Protocol};

/// The tier that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Built in.
    System,
    /// The node's operator's.
    Node,
    /// The pod's.
    Pod,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::Node => "node",
            Self::Pod => "pod",
        })
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A rule of a file.
    Rule,
    /// No rule matched: the tier's default.
    Default,
    /// The address is not a valid destination.
    Invalid(Invalid),
    /// The address is one that only the node's file opens.
    System(Class),
    /// No rule for addresses matches, and no pinned resolver named this one.
    NoName,
    /// The name that led here has outlived its time; ask again.
    Expired,
    /// A name that the rule allows led to an address inside.
    Rebinding,
    /// DNS with a server that is not pinned.
    OtherResolver,
    /// DNS with a pinned server: rules for names need it.
    Resolver,
    /// The node asks its pod for its health.
    Probe,
    /// The tier's file could not be read, so it allows nothing.
    Broken,
}

impl Reason {
    /// What it is called in the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Default => "default",
            Self::Invalid(_) => "invalid",
            Self::System(_) => "system",
            Self::NoName => "no-name",
            Self::Expired => "expired",
            Self::Rebinding => "rebinding",
            Self::OtherResolver => "other-resolver",
            Self::Resolver => "resolver",
            Self::Probe => "probe",
            Self::Broken => "broken-policy",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => write!(f, "invalid:{}", invalid.as_str()),
            Self::System(class) => write!(f, "system:{}", class.as_str()),
            other => f.write_str(other.as_str()),
        }
    }
}

/// What a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// The tier that decided.
    pub tier: Tier,
    /// The `id` of the rule, if it was one.
    pub rule: Option<Arc<str>>,
    /// Why.
    pub reason: Reason,
    /// Whether the rule wants each of its verdicts in the audit.
    pub log: bool,
    /// Which policy it was; each replacement counts one up.
    pub generation: u64,
}

/// The right to open one socket on the host. There is no way to come by one
/// but [`Policy::decide`](super::Policy::decide), and none to have two of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    flow: Flow,
    ground: Ground,
    names: Names,
}

impl Permit {
    pub(super) fn new(flow: Flow, ground: Ground, names: Names) -> Self {
        Self { flow, ground, names }
    }

    /// What was asked.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Which end began.
    pub fn direction(&self) -> Direction {
        self.flow.direction
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.flow.protocol
    }

    /// The other end.
    pub fn peer(&self) -> IpAddr {
        self.flow.peer
    }

    /// The port that is dialled.
    pub fn port(&self) -> u16 {
        self.flow.port
    }

    /// What the verdict rests on.
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// The names of the address when it was decided.
    pub fn names(&self) -> &Names {
        &self.names
    }
}

/// The refusal of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What was asked.
    pub flow: Flow,
    /// What the verdict rests on.
    pub ground: Ground,
    /// The names of the address when it was decided.
    pub names: Names,
    /// How the refusal is reported to the guest.
    pub mode: DenyMode,
}

/// What [`Policy::decide`](super::Policy::decide) answers.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Yes; the socket may be opened with it.
    Allow(Permit),
    /// No.
    Deny(Denial),
}

impl Verdict {
    /// Whether it is yes.
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// What it rests on.
    pub fn ground(&self) -> &Ground {
        match self {
            Self::Allow(permit) => permit.ground(),
            Self::Deny(denial) => &denial.ground,
        }
    }

    /// The permit, if it is yes.
    pub fn permit(self) -> Option<Permit> {
        match self {
            Self::Allow(permit) => Some(permit),
            Self::Deny(_) => None,
        }
    }
}
