use std::net::IpAddr;
use std::sync::Arc;

use super::document::{Action, Defaults, Dns, Document, Echo, Other, Resolvers, Stance};
use super::index::{Index, Ordered};
use super::matcher::{CLUSTER, Matcher, Probe};
use super::{Direction, Flow, Forms, Place, Protocol};

/// What is known of a tier's file.
#[derive(Clone, Debug, Default)]
pub enum Layer {
    /// There is none: the tier decides nothing.
    #[default]
    Unset,
    /// It was read.
    Read(Arc<Document>),
    /// There is one and it could not be read: the tier allows nothing.
    Broken,
}

/// What decides for a pod: the node's file and the pod's, and where it is.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) node: Compiled,
    pub(super) pod: Compiled,
    pub(super) place: Place,
    pub(super) generation: u64,
    pub(super) uses_names: bool,
    dns: Dns,
}

impl Policy {
    /// Of these files, in this place.
    pub fn new(node: &Layer, pod: &Layer, place: Place, generation: u64) -> Self {
        let node = Compiled::new(node, &place);
        let pod = Compiled::new(pod, &place);
        let uses_names = node.uses_names() || pod.uses_names();
        let dns = pod.tier().or_else(|| node.tier()).map(|tier| tier.dns.clone());
        Self { node, pod, place, generation, uses_names, dns: dns.unwrap_or_default() }
    }

    /// Which policy it is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a rule looks at names.
    pub fn uses_names(&self) -> bool {
        self.uses_names
    }

    /// Whether the answers of this server teach names. The node's list comes
    /// before the pod's, and that before the servers that the pod was given.
    pub fn is_pinned(&self, server: IpAddr) -> bool {
        let server = Forms::of(server).canonical();
        match self.node.resolvers().or_else(|| self.pod.resolvers()) {
            Some(listed) => listed.iter().any(|own| Forms::of(*own).canonical() == server),
            None => self.place.is_resolver(server),
        }
    }

    /// The DNS settings of the pod's file, else of the node's.
    pub fn dns(&self) -> &Dns {
        &self.dns
    }
}

/// A layer, ready to decide.
#[derive(Clone, Debug)]
pub(super) enum Compiled {
    Unset,
    Read(Box<Rules>),
    Broken,
}

#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub defaults: Defaults,
    pub dns: Dns,
    /// With the classes of the file.
    pub place: Place,
    rules: Vec<Matcher>,
    pub egress: Index,
    ingress: Index,
    uses_names: bool,
}

impl Rules {
    fn new(file: &Document, place: &Place) -> Self {
        let mut place = place.clone();
        place.cluster.extend(file.classes.get(CLUSTER).into_iter().flatten());
        let rules: Vec<_> =
            file.rules.iter().map(|rule| Matcher::new(rule, &file.classes, &place)).collect();
        let (mut egress, mut ingress) = (Index::default(), Index::default());
        for (number, rule) in (0..).zip(&rules) {
            match rule.direction {
                Direction::Egress => egress.add(number, rule),
                Direction::Ingress => ingress.add(number, rule),
            }
        }
        let uses_names = rules.iter().any(|rule| !rule.names.is_empty());
        let (defaults, dns) = (file.defaults.clone(), file.dns.clone());
        Self { defaults, dns, place, rules, egress, ingress, uses_names }
    }

    pub fn numbered<'a>(&'a self, numbers: Ordered<'a>) -> impl Iterator<Item = &'a Matcher> {
        numbers.filter_map(|number| self.rules.get(number as usize))
    }

    /// The rules that match, in their order.
    fn matching<'a, 'p>(
        &'a self,
        probe: &'p Probe<'p>,
    ) -> impl Iterator<Item = &'a Matcher> + use<'a, 'p> {
        let index = match probe.flow.direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        };
        self.numbered(index.find(probe)).filter(|rule| rule.matches(probe, &self.place))
    }

    fn is_rebound(&self, rule: &Matcher, probe: &Probe<'_>) -> bool {
        rule.is_rebound(probe.address, probe.known, &self.dns.private_names, &self.place)
    }

    /// The file's default.
    pub fn stance(&self, flow: &Flow) -> Stance {
        match (flow.protocol, self.defaults.icmp_echo, flow.direction) {
            (Protocol::Icmp, Echo::Allow, _) => Stance::Allow,
            (Protocol::Icmp, Echo::Deny, _) => Stance::Deny,
            (_, _, Direction::Egress) => self.defaults.egress,
            (_, _, Direction::Ingress) => self.defaults.ingress,
        }
    }

    /// Whether a rule on the way out lists networks with this address, or any
    /// networks or classes at all.
    pub fn lists(&self, address: Option<IpAddr>) -> bool {
        let egress = self.rules.iter().filter(|rule| rule.direction == Direction::Egress);
        match address {
            Some(address) => egress
                .filter_map(|rule| rule.networks.as_ref())
                .any(|networks| networks.iter().any(|net| net.contains(address))),
            None => {
                let mut egress = egress;
                egress.any(|rule| rule.networks.is_some() || rule.kinds.is_some())
            }
        }
    }

    /// Whether DNS with servers that are not pinned is denied.
    pub fn denies_other_resolvers(&self) -> bool {
        self.dns.other.map_or(self.uses_names, |other| other == Other::Deny)
    }
}

impl Compiled {
    fn new(layer: &Layer, place: &Place) -> Self {
        match layer {
            Layer::Unset => Self::Unset,
            Layer::Broken => Self::Broken,
            Layer::Read(file) => Self::Read(Box::new(Rules::new(file, place))),
        }
    }

    pub(super) fn tier(&self) -> Option<&Rules> {
        match self {
            Self::Read(rules) => Some(rules),
            Self::Unset | Self::Broken => None,
        }
    }

    pub(super) fn is_unset(&self) -> bool {
        matches!(self, Self::Unset)
    }

    pub(super) fn place(&self) -> Option<&Place> {
        self.tier().map(|tier| &tier.place)
    }

    /// The first rule that matches and counts.
    pub(super) fn first(&self, probe: &Probe<'_>) -> Option<&Matcher> {
        let tier = self.tier()?;
        tier.matching(probe).find(|rule| !tier.is_rebound(rule, probe))
    }

    /// The same without those that deny whatever the name.
    pub(super) fn first_but_plain_denials(&self, probe: &Probe<'_>) -> Option<&Matcher> {
        let tier = self.tier()?;
        let is_plain = |rule: &Matcher| rule.action == Action::Deny && rule.names.is_empty();
        tier.matching(probe).find(|rule| !is_plain(rule) && !tier.is_rebound(rule, probe))
    }

    /// The first rule that matches and does not count, because a name led to
    /// an address inside.
    pub(super) fn rebound(&self, probe: &Probe<'_>) -> Option<&Matcher> {
        let tier = self.tier()?;
        tier.matching(probe).find(|rule| tier.is_rebound(rule, probe))
    }

    fn uses_names(&self) -> bool {
        self.tier().is_some_and(|tier| tier.uses_names)
    }

    fn resolvers(&self) -> Option<&[IpAddr]> {
        match &self.tier()?.dns.resolvers {
            Resolvers::Pod => None,
            Resolvers::Listed(list) => Some(list),
        }
    }
}
