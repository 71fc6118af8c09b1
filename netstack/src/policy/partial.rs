use std::net::IpAddr;

use super::document::{Action, Defaults, Echo, Stance};
use super::matcher::Matcher;
use super::tier::{Compiled, Policy, Rules};
use super::{Class, Forms, Ground, Invalid, Known, Protocol, Reason, Tier};

/// Whether a rule matches a flow of which not everything is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    /// Whatever the rest is, it does not.
    No,
    /// That depends on the rest.
    Maybe,
    /// Whatever the rest is, it does.
    Yes,
}

/// A flow on the way out of which the port and the protocol are not known,
/// and perhaps neither are the address and the aliases of its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial<'a> {
    /// In canonical form.
    pub(super) address: Option<IpAddr>,
    pub(super) known: &'a Known,
}

/// What the rest of a flow may come to in a tier.
enum Outcome {
    /// Something may be allowed.
    Open,
    /// Nothing is allowed, but the next tier may decide on something.
    Next,
    /// Nothing is allowed.
    Closed(Ground),
}

impl Policy {
    /// Whether the answer to a query for this name could be of any use: whether
    /// there are an address, a protocol and a port with which
    /// [`decide`](Self::decide) might allow it. The way to a pinned server
    /// itself does not count.
    ///
    /// Where it could not, the error is what the refusal rests on.
    pub fn may_ask(&self, known: &Known) -> Result<(), Ground> {
        self.may(&Partial { address: None, known })
    }

    /// Whether anything could be allowed to this address by this name.
    pub fn may_reach(&self, address: IpAddr, known: &Known) -> Result<(), Ground> {
        let forms = Forms::of(address);
        for form in forms.iter() {
            if let Some(invalid) = Invalid::of(form) {
                return Err(self.ground(Tier::System, Reason::Invalid(invalid)));
            }
            let partial = Partial { address: Some(form), known };
            if let Some(class) = self.closed_partial(form, &partial) {
                return Err(self.ground(Tier::System, Reason::System(class)));
            }
            self.may(&partial)?;
        }
        Ok(())
    }

    fn may(&self, partial: &Partial<'_>) -> Result<(), Ground> {
        match self.tier_may(Tier::Node, &self.node, partial) {
            Outcome::Open => return Ok(()),
            Outcome::Closed(ground) => return Err(ground),
            Outcome::Next => {}
        }
        match self.tier_may(Tier::Pod, &self.pod, partial) {
            Outcome::Closed(ground) => Err(ground),
            Outcome::Open | Outcome::Next => Ok(()),
        }
    }

    fn tier_may(&self, tier: Tier, compiled: &Compiled, partial: &Partial<'_>) -> Outcome {
        let rules = match compiled {
            Compiled::Unset => return Outcome::Next,
            Compiled::Broken => return Outcome::Closed(self.ground(tier, Reason::Broken)),
            Compiled::Read(rules) => rules,
        };
        let mut may_pass = false;
        for rule in rules.candidates(partial) {
            match (rule.action, rules.compare(rule, partial)) {
                (_, Match::No) | (Action::Deny, Match::Maybe) => {}
                (Action::Allow, _) if self.uses_names && rule.is_for_dns() => {}
                (Action::Allow, _) => return Outcome::Open,
                (Action::Pass, Match::Maybe) => may_pass = true,
                (Action::Pass, Match::Yes) => return Outcome::Next,
                (Action::Deny, Match::Yes) if may_pass => return Outcome::Next,
                (Action::Deny, Match::Yes) => {
                    let mut ground = self.ground(tier, Reason::Rule);
                    ground.rule = Some(rule.id.clone());
                    ground.log = rule.log;
                    return Outcome::Closed(ground);
                }
            }
        }
        if may_pass || may_by_default(&rules.defaults) {
            Outcome::Next
        } else {
            Outcome::Closed(self.ground(tier, Reason::NoName))
        }
    }

    fn ground(&self, tier: Tier, reason: Reason) -> Ground {
        Ground { tier, rule: None, reason, log: false, generation: self.generation }
    }
}

fn may_by_default(defaults: &Defaults) -> bool {
    defaults.egress == Stance::Allow || defaults.icmp_echo == Echo::Allow
}

impl Rules {
    /// The rules that may match, in their order.
    pub fn candidates<'a>(
        &'a self,
        partial: &Partial<'_>,
    ) -> impl Iterator<Item = &'a Matcher> + use<'a> {
        let known = partial.known;
        let names = std::iter::once(&known.asked).chain(known.chain.iter());
        self.numbered(self.egress.find_partial(partial.address, names))
    }

    /// Compares a rule with what is known of a flow on the way out.
    pub fn compare(&self, rule: &Matcher, partial: &Partial<'_>) -> Match {
        let (place, private) = (&self.place, &self.dns.private_names);
        let reaches = match partial.address {
            Some(address) if !rule.reaches(address, place) => Match::No,
            Some(address) if rule.is_rebound(address, Some(partial.known), private, place) => {
                Match::No
            }
            Some(_) => Match::Yes,
            None if rule.means_any_address() => Match::Yes,
            None => Match::Maybe,
        };
        reaches.min(rule.speaks_partial()).min(rule.names_partial(partial))
    }
}

impl Compiled {
    /// Whether a rule allows some of this and means the address of this class.
    pub(super) fn may_open(&self, class: Class, address: IpAddr, partial: &Partial<'_>) -> bool {
        self.tier().is_some_and(|tier| {
            tier.candidates(partial).any(|rule| {
                rule.action == Action::Allow
                    && tier.compare(rule, partial) != Match::No
                    && rule.singles_out(class, address, &tier.place)
            })
        })
    }
}

impl Matcher {
    /// Whether it is for nothing but DNS: what it opens leads to no host that
    /// a name was asked for.
    pub(super) fn is_for_dns(&self) -> bool {
        self.ports.as_ref().is_some_and(|own| own.iter().all(|ports| ports.single() == Some(53)))
    }

    /// Whether it matches whatever is not known of a flow.
    pub(super) fn is_certain(&self) -> bool {
        self.means_any_address() && self.speaks_partial() == Match::Yes && self.names.is_empty()
    }

    pub(super) fn speaks_partial(&self) -> Match {
        let every = |own: &Vec<Protocol>| Protocol::ALL.iter().all(|one| own.contains(one));
        match self.ports.is_none() && self.protocols.as_ref().is_none_or(every) {
            true => Match::Yes,
            false => Match::Maybe,
        }
    }

    pub(super) fn names_partial(&self, partial: &Partial<'_>) -> Match {
        if self.names.is_empty() || self.means(&partial.known.asked) {
            return Match::Yes;
        }
        match (self.action, partial.address) {
            (Action::Allow | Action::Pass, _) => Match::No,
            // Which aliases the answer will bring is not known yet.
            (Action::Deny, None) => Match::Maybe,
            (Action::Deny, Some(_)) if partial.known.chain.iter().any(|name| self.means(name)) => {
                Match::Yes
            }
            (Action::Deny, Some(_)) => Match::No,
        }
    }
}
