//! What is shown of the stack: its open flows, the names that it knows, and
//! what it would decide.

use std::net::IpAddr;
use std::sync::Arc;

use smoltcp::time::Instant;

use crate::ends::Ends;
use crate::policy::{Direction, Explanation, Known, Names, Permit, Protocol, Reason, Tier};

/// An open flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// Its number, as in the audit.
    pub id: u64,
    /// Which end began.
    pub direction: Direction,
    /// What is spoken.
    pub protocol: Protocol,
    /// Its ends; a ping's have no ports.
    pub ends: Ends,
    /// `dialing`, `open`, or what the protocol calls it.
    pub state: &'static str,
    /// The `id` of the rule that allowed it, if it was one.
    pub rule: Option<Arc<str>>,
    /// Why it was allowed.
    pub reason: Reason,
    /// The tier of that rule.
    pub tier: Tier,
    /// Which policy it was allowed by.
    pub generation: u64,
    /// The names of the other end when it was allowed.
    pub names: Names,
    /// Bytes from the guest.
    pub sent: u64,
    /// Bytes to it.
    pub received: u64,
    /// When it began.
    pub since: Instant,
    /// When something was last heard of it.
    pub used: Instant,
}

/// How a flow is doing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub state: &'static str,
    pub sent: u64,
    pub received: u64,
    pub since: Instant,
    pub used: Instant,
}

impl FlowRow {
    pub(crate) fn of(id: u64, ends: Ends, permit: &Permit, progress: Progress) -> Self {
        let Progress { state, sent, received, since, used } = progress;
        let ground = permit.ground();
        Self {
            id,
            direction: permit.direction(),
            protocol: permit.protocol(),
            ends,
            state,
            rule: ground.rule.clone(),
            reason: ground.reason,
            tier: ground.tier,
            generation: ground.generation,
            names: permit.names().clone(),
            sent,
            received,
            since,
            used,
        }
    }
}

/// A name that leads to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRow {
    /// Where it leads.
    pub address: IpAddr,
    /// What was asked, and the aliases on the way.
    pub known: Known,
    /// Seconds until it is forgotten, if no flow uses it.
    pub seconds: u64,
}

/// What would become of a flow to a destination.
#[derive(Clone, Debug)]
pub struct OutlookRow {
    /// The address that it would go to; none of a name that leads to none yet.
    pub address: Option<IpAddr>,
    /// The names by which the guest knows it.
    pub names: Names,
    /// The verdict.
    pub told: Explanation,
}
