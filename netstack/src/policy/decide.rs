use std::net::IpAddr;

use super::class::Class;
use super::document::{Action, DenyMode, Stance};
use super::matcher::{Matcher, Probe};
use super::partial::Partial;
use super::tier::{Compiled, Policy, Rules};
use super::{
    Denial, Direction, EMBEDDED_RESOLVER, Flow, Forms, Ground, Invalid, Names, Permit, Protocol,
    Reason, Tier, Verdict,
};

/// Port of DNS.
const DNS: u16 = 53;
/// Classes that no pod reaches unless a rule of the node names them.
const CLOSED: &[Class] = &[Class::Metadata, Class::LinkLocal, Class::Host];

/// What one look at one form of an address, by one name, came to.
#[derive(Clone, Debug)]
struct Ruling {
    stance: Stance,
    ground: Ground,
    mode: DenyMode,
    /// Denied by a rule that has names, or it would be if those without did not
    /// deny it first: that weighs more than what other names of the same
    /// address are allowed.
    by_name: bool,
}

impl Policy {
    /// Decides on a flow whose peer the pod may know by `names`.
    ///
    /// An address is looked at in [each of its forms](Forms), and one that is
    /// denied is enough. It is looked at by each of its names: one that is
    /// allowed is enough, unless a rule for names denies another.
    pub fn decide(&self, flow: &Flow, names: &Names) -> Verdict {
        let forms = Forms::of(flow.peer);
        if let Some(invalid) = self.invalid(flow, &forms) {
            return self.verdict(flow, names, self.system(Stance::Deny, Reason::Invalid(invalid)));
        }
        let mut first = None;
        for address in forms.iter() {
            let ruling = self.by_names(flow, address, names);
            if ruling.stance == Stance::Deny {
                return self.verdict(flow, names, ruling);
            }
            first.get_or_insert(ruling);
        }
        let none = || self.system(Stance::Deny, Reason::Default);
        self.verdict(flow, names, first.unwrap_or_else(none))
    }

    /// Decides anew on an open flow, by the names that it was allowed by: their
    /// time may have passed since, which ends no flow.
    pub fn recheck(&self, permit: &Permit) -> Verdict {
        self.decide(permit.flow(), permit.names())
    }

    fn invalid(&self, flow: &Flow, forms: &Forms) -> Option<Invalid> {
        if forms.is_mapped() {
            return Some(Invalid::Mapped);
        }
        let found = forms.iter().find_map(Invalid::of)?;
        // A port forward connects to the loopback of the pod's namespace.
        let forwards = flow.direction == Direction::Ingress;
        let asks = is_dns(flow)
            && flow.peer == EMBEDDED_RESOLVER
            && self.place.is_resolver(EMBEDDED_RESOLVER);
        (found != Invalid::Loopback || !(forwards || asks)).then_some(found)
    }

    fn verdict(&self, flow: &Flow, names: &Names, ruling: Ruling) -> Verdict {
        let Ruling { stance, ground, mode, .. } = ruling;
        match stance {
            Stance::Allow => Verdict::Allow(Permit::new(*flow, ground, names.clone())),
            Stance::Deny => {
                Verdict::Deny(Denial { flow: *flow, ground, names: names.clone(), mode })
            }
        }
    }

    fn by_names(&self, flow: &Flow, address: IpAddr, names: &Names) -> Ruling {
        let look = |known| self.walk(&Probe { flow: *flow, address, known });
        let Some((first, rest)) = names.live.split_first() else {
            return self.unnamed(flow, look(None), names);
        };
        let mut best = look(Some(first));
        for known in rest {
            if best.by_name {
                break;
            }
            let ruling = look(Some(known));
            if ruling.by_name || (best.stance == Stance::Deny && ruling.stance == Stance::Allow) {
                best = ruling;
            }
        }
        best
    }

    /// Says why nothing matched, where a name was what was missing.
    fn unnamed(&self, flow: &Flow, mut ruling: Ruling, names: &Names) -> Ruling {
        let is_default = ruling.ground.reason == Reason::Default;
        let is_egress = flow.direction == Direction::Egress;
        if ruling.stance == Stance::Deny && is_default && is_egress && self.uses_names {
            ruling.ground.reason = if names.has_expired { Reason::Expired } else { Reason::NoName };
        }
        ruling
    }

    /// Goes down the tiers.
    fn walk(&self, probe: &Probe<'_>) -> Ruling {
        if let Some(ruling) = self.closed(probe) {
            return ruling;
        }
        let node = self.tier(Tier::Node, &self.node, probe);
        if let Some(ruling) = node {
            return ruling;
        }
        match self.tier(Tier::Pod, &self.pod, probe) {
            Some(ruling) => ruling,
            None => self.last(probe),
        }
    }

    /// The system's word on what only the node's file opens.
    fn closed(&self, probe: &Probe<'_>) -> Option<Ruling> {
        if probe.flow.direction == Direction::Ingress || self.is_given_resolver(probe) {
            return None;
        }
        let place = self.node.place().unwrap_or(&self.place);
        let opener = self.node.first(probe).filter(|rule| rule.action == Action::Allow);
        let is_opened =
            |class| opener.is_some_and(|rule| rule.singles_out(class, probe.address, place));
        let closed = CLOSED
            .iter()
            .find(|class| class.contains(probe.address, &self.place) && !is_opened(**class))?;
        Some(self.system(Stance::Deny, Reason::System(*closed)))
    }

    /// The same for whatever goes to this address by this name.
    pub(super) fn closed_partial(&self, address: IpAddr, partial: &Partial<'_>) -> Option<Class> {
        if self.place.is_resolver(address) {
            return None;
        }
        CLOSED.iter().copied().find(|class| {
            class.contains(address, &self.place) && !self.node.may_open(*class, address, partial)
        })
    }

    /// The tier's ruling, if it has one.
    fn tier(&self, tier: Tier, compiled: &Compiled, probe: &Probe<'_>) -> Option<Ruling> {
        let rules = match compiled {
            Compiled::Unset => return None,
            Compiled::Broken => {
                return Some(self.ruling(Stance::Deny, tier, Reason::Broken, DenyMode::Reject));
            }
            Compiled::Read(rules) => rules,
        };
        let mode = rules.defaults.deny_mode;
        if rules.denies_other_resolvers() && is_dns(&probe.flow) && !self.is_pinned(probe.address) {
            return Some(self.ruling(Stance::Deny, tier, Reason::OtherResolver, mode));
        }
        if let Some(rule) = compiled.first(probe) {
            return self.by_rule(tier, rule, mode, probe);
        }
        if let Some(ruling) = self.implied(probe) {
            return (tier == Tier::Pod || self.pod.is_unset()).then_some(ruling);
        }
        match (rules.stance(&probe.flow), tier) {
            (Stance::Allow, Tier::Node) if !self.pod.is_unset() => None,
            (Stance::Allow, _) => Some(self.ruling(Stance::Allow, tier, Reason::Default, mode)),
            (Stance::Deny, _) => Some(self.refused_by_default(tier, compiled, probe, mode)),
        }
    }

    fn by_rule(
        &self,
        tier: Tier,
        rule: &Matcher,
        mode: DenyMode,
        probe: &Probe<'_>,
    ) -> Option<Ruling> {
        let stance = match rule.action {
            Action::Allow => Stance::Allow,
            Action::Deny => Stance::Deny,
            Action::Pass => return None,
        };
        let mut ruling = self.ruling(stance, tier, Reason::Rule, mode);
        ruling.ground.rule = Some(rule.id.clone());
        ruling.ground.log = rule.log;
        ruling.by_name = stance == Stance::Deny && self.denies_name(tier, probe);
        Some(ruling)
    }

    /// Whether a rule with names denies this where none without names does. To
    /// go by the first rule alone would have a denial more allow more: put
    /// before one with names, it would take its weight away.
    fn denies_name(&self, tier: Tier, probe: &Probe<'_>) -> bool {
        let compiled = if tier == Tier::Node { &self.node } else { &self.pod };
        let goes_on = match compiled.first_but_plain_denials(probe).map(|rule| rule.action) {
            Some(Action::Deny) => return true,
            Some(Action::Allow) => false,
            Some(Action::Pass) => true,
            None => {
                let allows = |rules: &Rules| rules.stance(&probe.flow) == Stance::Allow;
                self.implied(probe).is_some() || compiled.tier().is_some_and(allows)
            }
        };
        let pod = || self.tier(Tier::Pod, &self.pod, probe);
        goes_on && tier == Tier::Node && pod().is_some_and(|ruling| ruling.by_name)
    }

    /// A refusal by default, which says so if a rule for names was passed over
    /// because the address is one inside.
    fn refused_by_default(
        &self,
        tier: Tier,
        compiled: &Compiled,
        probe: &Probe<'_>,
        mode: DenyMode,
    ) -> Ruling {
        let mut ruling = self.ruling(Stance::Deny, tier, Reason::Default, mode);
        if let Some(rule) = compiled.rebound(probe) {
            ruling.ground.reason = Reason::Rebinding;
            ruling.ground.rule = Some(rule.id.clone());
        }
        ruling
    }

    /// What is allowed without a rule: DNS with a pinned server where rules
    /// have names, and the node's probes.
    fn implied(&self, probe: &Probe<'_>) -> Option<Ruling> {
        let reason = match probe.flow.direction {
            Direction::Ingress if self.place.is_host(probe.address) => Reason::Probe,
            Direction::Egress
                if self.uses_names && is_dns(&probe.flow) && self.is_pinned(probe.address) =>
            {
                Reason::Resolver
            }
            _ => return None,
        };
        Some(self.system(Stance::Allow, reason))
    }

    /// Without a file, everything that is not closed is open.
    fn last(&self, probe: &Probe<'_>) -> Ruling {
        let stance = self.node.tier().map_or(Stance::Allow, |rules| rules.stance(&probe.flow));
        self.system(stance, Reason::Default)
    }

    /// A server that the pod was given may have an address that is otherwise
    /// closed, as a cluster's cache on the node has.
    fn is_given_resolver(&self, probe: &Probe<'_>) -> bool {
        is_dns(&probe.flow) && self.place.is_resolver(probe.address)
    }

    fn system(&self, stance: Stance, reason: Reason) -> Ruling {
        self.ruling(stance, Tier::System, reason, DenyMode::Reject)
    }

    fn ruling(&self, stance: Stance, tier: Tier, reason: Reason, mode: DenyMode) -> Ruling {
        let generation = self.generation;
        let ground = Ground { tier, rule: None, reason, log: false, generation };
        Ruling { stance, ground, mode, by_name: false }
    }
}

fn is_dns(flow: &Flow) -> bool {
    flow.direction == Direction::Egress && flow.port == DNS && flow.protocol != Protocol::Icmp
}
