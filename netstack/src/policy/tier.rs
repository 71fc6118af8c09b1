use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::class::{Class, ClassName};
use super::document::{Action, Defaults, Dns, Document, Other, Resolvers, Rule, Stance};
use super::{Cidr, Direction, Flow, Forms, Known, Name, Pattern, Place, Ports, Protocol};

/// The class that a file may list and the node otherwise knows.
const CLUSTER: &str = "cluster";

/// What is known of a tier's file.
#[derive(Clone, Debug, Default)]
pub enum Layer {
    /// There is none, and none was asked for: the tier says nothing.
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
}

impl Policy {
    /// Of these files, in this place.
    pub fn new(node: &Layer, pod: &Layer, place: Place, generation: u64) -> Self {
        let node = Compiled::new(node, &place);
        let pod = Compiled::new(pod, &place);
        let uses_names = node.uses_names() || pod.uses_names();
        Self { node, pod, place, generation, uses_names }
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

    /// What the pod's file, else the node's, says of DNS.
    pub fn dns(&self) -> Dns {
        let first = self.pod.document().or_else(|| self.node.document());
        first.map(|file| file.dns.clone()).unwrap_or_default()
    }
}

/// A tier, ready to decide.
#[derive(Clone, Debug)]
pub(super) enum Compiled {
    Unset,
    Read { file: Arc<Document>, rules: Vec<Matcher>, place: Place, uses_names: bool },
    Broken,
}

impl Compiled {
    fn new(layer: &Layer, place: &Place) -> Self {
        match layer {
            Layer::Unset => Self::Unset,
            Layer::Broken => Self::Broken,
            Layer::Read(file) => {
                let mut place = place.clone();
                place.cluster.extend(file.classes.get(CLUSTER).into_iter().flatten());
                let matcher = |rule| Matcher::new(rule, &file.classes, &place);
                let rules: Vec<_> = file.rules.iter().map(matcher).collect();
                let uses_names = rules.iter().any(|rule| !rule.names.is_empty());
                Self::Read { file: file.clone(), rules, place, uses_names }
            }
        }
    }

    pub(super) fn document(&self) -> Option<&Document> {
        match self {
            Self::Read { file, .. } => Some(file),
            Self::Unset | Self::Broken => None,
        }
    }

    pub(super) fn is_unset(&self) -> bool {
        matches!(self, Self::Unset)
    }

    /// The place, with what the file itself says of it.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Read { place, .. } => Some(place),
            Self::Unset | Self::Broken => None,
        }
    }

    /// The first rule that matches and counts.
    pub(super) fn first(&self, probe: &Probe<'_>) -> Option<&Matcher> {
        let Self::Read { file, rules, place, .. } = self else { return None };
        rules.iter().find(|rule| {
            rule.matches(probe, place) && !rule.is_rebound(probe, &file.dns.private_names, place)
        })
    }

    /// The first rule that matches and does not count, because a name led to
    /// an address inside.
    pub(super) fn rebound(&self, probe: &Probe<'_>) -> Option<&Matcher> {
        let Self::Read { file, rules, place, .. } = self else { return None };
        rules.iter().find(|rule| {
            rule.matches(probe, place) && rule.is_rebound(probe, &file.dns.private_names, place)
        })
    }

    fn uses_names(&self) -> bool {
        matches!(self, Self::Read { uses_names: true, .. })
    }

    fn resolvers(&self) -> Option<&[IpAddr]> {
        match &self.document()?.dns.resolvers {
            Resolvers::Pod => None,
            Resolvers::Listed(list) => Some(list),
        }
    }

    /// Whether DNS with servers that are not pinned is denied.
    pub(super) fn denies_other_resolvers(&self) -> bool {
        match self.document().map(|file| file.dns.other) {
            Some(Some(other)) => other == Other::Deny,
            Some(None) => self.uses_names(),
            None => false,
        }
    }
}

/// What a rule wants of an address's kind.
#[derive(Clone, Debug)]
enum Kind {
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
    except: Vec<Cidr>,
    kinds: Option<Vec<Kind>>,
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
    fn new(rule: &Rule, classes: &BTreeMap<String, Vec<Cidr>>, place: &Place) -> Self {
        let kind = |class: &ClassName| match class {
            ClassName::BuiltIn(class) => Kind::BuiltIn(*class),
            ClassName::Own(name) => Kind::Own(own_class(name, classes, place)),
        };
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
            names: rule.name.clone().unwrap_or_default(),
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
        let mut meant = |name: &Name| self.names.iter().any(|pattern| pattern.matches(name));
        meant(&known.asked) || (self.action == Action::Deny && known.chain.iter().any(&mut meant))
    }

    /// Whether the rule opens something by a name alone, which the owner of
    /// the name pointed at an address inside. A network or a class in the rule
    /// says that the address is meant.
    fn is_rebound(&self, probe: &Probe<'_>, private: &[Pattern], place: &Place) -> bool {
        let by_name_alone = !self.names.is_empty()
            && self.action != Action::Deny
            && self.networks.is_none()
            && self.kinds.is_none();
        by_name_alone
            && is_inside(probe.address, place)
            && !probe.known.is_some_and(|known| private.iter().any(|own| own.matches(&known.asked)))
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

/// What the file says where no rule of it does.
pub(super) fn stance(defaults: &Defaults, flow: &Flow) -> Stance {
    use super::document::Echo;
    let general = match flow.direction {
        Direction::Egress => defaults.egress,
        Direction::Ingress => defaults.ingress,
    };
    match (flow.protocol, defaults.icmp_echo) {
        (Protocol::Icmp, Echo::Allow) => Stance::Allow,
        (Protocol::Icmp, Echo::Deny) => Stance::Deny,
        _ => general,
    }
}
