use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::class::{Class, ClassName};
use super::document::{Action, Rule};
use super::{Cidr, Direction, Flow, Known, Name, Pattern, Place, Ports, Protocol};

/// The class that a file may list and the node otherwise knows.
pub(super) const CLUSTER: &str = "cluster";

/// What a rule wants of an address's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BuiltIn(Class),
    Own(Vec<Cidr>),
}

/// A rule, ready to be compared.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    pub(super) id: Arc<str>,
    pub(super) direction: Direction,
    pub(super) action: Action,
    pub(super) log: bool,
    pub(super) protocols: Option<Vec<Protocol>>,
    pub(super) ports: Option<Vec<Ports>>,
    pub(super) networks: Option<Vec<Cidr>>,
    pub(super) except: Vec<Cidr>,
    pub(super) kinds: Option<Vec<Kind>>,
    /// Sorted, for [`means`](Self::means).
    pub(super) names: Vec<Pattern>,
}

/// One form of a flow's peer, known by at most one name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'a> {
    pub(super) flow: Flow,
    /// In canonical form.
    pub(super) address: IpAddr,
    pub(super) known: Option<&'a Known>,
}

impl Matcher {
    pub(super) fn new(rule: &Rule, classes: &BTreeMap<String, Vec<Cidr>>, place: &Place) -> Self {
        let kind = |class: &ClassName| match class {
            ClassName::BuiltIn(class) => Kind::BuiltIn(*class),
            ClassName::Own(name) => Kind::Own(own_class(name, classes, place)),
        };
        let mut names = rule.name.clone().unwrap_or_default();
        names.sort_unstable();
        Self {
            id: rule.id.as_str().into(),
            direction: rule.dir,
            action: rule.action,
            log: rule.log,
            protocols: rule.proto.clone(),
            ports: rule.ports.clone(),
            networks: rule.cidr.clone(),
            except: rule.except.clone().unwrap_or_default(),
            kinds: rule.class.as_ref().map(|classes| classes.iter().map(kind).collect()),
            names,
        }
    }

    pub(super) fn matches(&self, probe: &Probe<'_>, place: &Place) -> bool {
        self.direction == probe.flow.direction
            && self.speaks(probe.flow.protocol, probe.flow.port)
            && self.reaches(probe.address, place)
            && (self.names.is_empty() || probe.known.is_some_and(|known| self.knows(known)))
    }

    /// A rule for ports is not one for a protocol that has none.
    pub(super) fn speaks(&self, protocol: Protocol, port: u16) -> bool {
        let has_port = protocol != Protocol::Icmp;
        self.protocols.as_ref().is_none_or(|own| own.contains(&protocol))
            && self
                .ports
                .as_ref()
                .is_none_or(|own| has_port && own.iter().any(|ports| ports.contains(port)))
    }

    pub(super) fn reaches(&self, address: IpAddr, place: &Place) -> bool {
        self.networks.as_ref().is_none_or(|own| own.iter().any(|net| net.contains(address)))
            && !self.except.iter().any(|net| net.contains(address))
            && self.kinds.as_ref().is_none_or(|own| {
                own.iter().any(|kind| match kind {
                    Kind::BuiltIn(class) => class.contains(address, place),
                    Kind::Own(networks) => networks.iter().any(|net| net.contains(address)),
                })
            })
    }

    /// Allowing looks at what was asked, denying at every name on the way.
    fn knows(&self, known: &Known) -> bool {
        self.means(&known.asked)
            || (self.action == Action::Deny && known.chain.iter().any(|name| self.means(name)))
    }

    /// Whether one of its patterns matches: found, and not compared one by one,
    /// since lists of thousands of names are usual.
    pub(super) fn means(&self, name: &Name) -> bool {
        let has = |is_below: bool, text: &str| {
            let order = |pattern: &Pattern| match pattern {
                Pattern::Exact(own) => (false, own.as_str()).cmp(&(is_below, text)),
                Pattern::Below(apex) => (true, apex.as_str()).cmp(&(is_below, text)),
            };
            self.names.binary_search_by(order).is_ok()
        };
        has(false, name.as_str()) || name.ancestry().skip(1).any(|above| has(true, above))
    }

    /// Whether the rule opens something by a name alone, which the owner of
    /// the name pointed at an address inside. A network or a class in the rule
    /// says that the address is meant.
    pub(super) fn is_rebound(
        &self,
        address: IpAddr,
        known: Option<&Known>,
        private: &[Pattern],
        place: &Place,
    ) -> bool {
        let is_private =
            |known: &Known| private.iter().any(|pattern| pattern.matches(&known.asked));
        self.opens_by_name_alone() && is_inside(address, place) && !known.is_some_and(is_private)
    }

    pub(super) fn opens_by_name_alone(&self) -> bool {
        !self.names.is_empty()
            && self.action != Action::Deny
            && self.networks.is_none()
            && self.kinds.is_none()
    }

    /// Whether it matches whatever the address is.
    pub(super) fn means_any_address(&self) -> bool {
        self.networks.is_none()
            && self.kinds.is_none()
            && self.except.is_empty()
            && !self.opens_by_name_alone()
    }

    /// The networks under which an index has the rule: whatever address it
    /// matches is in one of them.
    pub(super) fn cells(&self) -> Vec<Cidr> {
        if let Some(networks) = &self.networks {
            return networks.clone();
        }
        let own = |kind: &Kind| match kind {
            Kind::Own(networks) => Some(networks.clone()),
            Kind::BuiltIn(_) => None,
        };
        let all: Option<Vec<_>> =
            self.kinds.as_ref().and_then(|kinds| kinds.iter().map(own).collect());
        match all {
            Some(networks) => networks.concat(),
            None => vec![
                Cidr::covering(Ipv4Addr::UNSPECIFIED.into(), 0),
                Cidr::covering(Ipv6Addr::UNSPECIFIED.into(), 0),
            ],
        }
    }

    /// Whether nothing but its cells and ports keeps it from matching.
    pub(super) fn is_plain(&self) -> bool {
        let own = |kinds: &Vec<Kind>| {
            self.networks.is_none() && kinds.iter().all(|kind| matches!(kind, Kind::Own(_)))
        };
        self.protocols.is_none()
            && self.except.is_empty()
            && self.names.is_empty()
            && self.kinds.as_ref().is_none_or(own)
    }

    /// Whether the rule means an address of this class by name or by number,
    /// and not because it means everything.
    pub(super) fn singles_out(&self, class: Class, address: IpAddr, place: &Place) -> bool {
        let by_class = self.kinds.iter().flatten().any(
            |kind| matches!(kind, Kind::BuiltIn(own) if *own == class && class.contains(address, place)),
        );
        let is_narrow = |net: &Cidr| {
            net.contains(address) && (class.covers(net) || *net == Cidr::host(address))
        };
        by_class || self.networks.iter().flatten().any(is_narrow)
    }
}

/// Whether no name of the outside has any business to lead there.
fn is_inside(address: IpAddr, place: &Place) -> bool {
    !Class::Public.contains(address, place)
}

/// The networks of a class of the file's own; the node knows the cluster's.
fn own_class(name: &str, classes: &BTreeMap<String, Vec<Cidr>>, place: &Place) -> Vec<Cidr> {
    match classes.get(name) {
        Some(networks) => networks.clone(),
        None if name == CLUSTER => place.cluster.clone(),
        None => vec![],
    }
}
