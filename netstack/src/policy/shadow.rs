//! Rules that can never decide, because an earlier one matches all they match.

use super::document::Document;
use super::finding::{Finding, in_rule};
use super::index::Index;
use super::matcher::{Kind, Matcher};
use super::{Cidr, Direction, Place, Protocol};

/// Most comparisons of a list's entry with another's: a second at worst. Who
/// writes a file chooses how many there would be.
const MAX_WORK: usize = 20_000_000;

/// Refuses a rule that an earlier one keeps from ever deciding otherwise, and
/// warns of one that is merely not needed. Several earlier rules that only
/// together leave nothing are not found.
pub(super) fn check(file: &Document, warnings: &mut Vec<Finding>) -> Result<(), Finding> {
    let place = Place::default();
    let rules: Vec<_> =
        file.rules.iter().map(|rule| Matcher::new(rule, &file.classes, &place)).collect();
    let mut indexes = [Index::default(), Index::default()];
    let [egress, ingress] = &mut indexes;
    let mut work = 0_usize;
    for (index, rule) in rules.iter().enumerate() {
        let earlier = match rule.direction {
            Direction::Egress => &mut *egress,
            Direction::Ingress => &mut *ingress,
        };
        let numbered = |number: u32| rules.get(number as usize);
        let by = earlier.find_covering(rule).filter_map(numbered).find(|other| {
            work = work.saturating_add(other.work(rule));
            work <= MAX_WORK && other.covers(rule)
        });
        if work > MAX_WORK {
            let what = "not all rules were compared with the ones before them: there are too many \
                        that are alike; use fewer and shorter lists";
            warnings.push(in_rule(index, "id", what));
            return Ok(());
        }
        if let Some(by) = by {
            let differs = by.action != rule.action || by.log != rule.log;
            let first = &by.id;
            if differs {
                let what = format!(
                    "shadowed rule: `{first}`, which stands before it, matches all that it \
                     matches, so it never decides; put it before `{first}`, or leave it out"
                );
                return Err(in_rule(index, "id", what));
            }
            let what = format!("not needed: `{first}`, which stands before it, does the same");
            warnings.push(in_rule(index, "id", what));
        }
        earlier.add(u32::try_from(index).unwrap_or(u32::MAX), rule);
    }
    Ok(())
}

impl Matcher {
    /// How many comparisons [`covers`](Self::covers) may take.
    fn work(&self, other: &Self) -> usize {
        fn length<T>(list: &Option<Vec<T>>) -> usize {
            list.as_ref().map_or(1, Vec::len)
        }
        let holes = self.except.len() * (length(&other.networks) + other.except.len());
        1 + length(&self.ports) * length(&other.ports)
            + length(&self.networks) * length(&other.networks)
            + length(&self.kinds) * (length(&other.kinds) + length(&other.networks))
            + self.names.len() * other.names.len()
            + holes
    }

    /// Whether it matches everything that `other` does, as far as that can be
    /// decided without the answers of DNS.
    fn covers(&self, other: &Self) -> bool {
        let is_narrowed = other.networks.is_some() || other.kinds.is_some();
        // An address inside is not opened by a name alone, but by both.
        if self.opens_by_name_alone() && is_narrowed {
            return false;
        }
        self.covers_protocols(other)
            && self.covers_ports(other)
            && self.covers_networks(other)
            && self.covers_kinds(other)
            && self.covers_names(other)
    }

    fn covers_protocols(&self, other: &Self) -> bool {
        let Some(own) = &self.protocols else { return true };
        let has = |protocol: &Protocol| own.contains(protocol);
        match &other.protocols {
            Some(others) => others.iter().all(has),
            // A rule for ports is for what has ports.
            None if other.ports.is_some() => [Protocol::Tcp, Protocol::Udp].iter().all(has),
            None => Protocol::ALL.iter().all(has),
        }
    }

    fn covers_ports(&self, other: &Self) -> bool {
        let Some(own) = &self.ports else { return true };
        other.ports.as_ref().is_some_and(|others| {
            others.iter().all(|port| own.iter().any(|range| range.covers(port)))
        })
    }

    fn covers_networks(&self, other: &Self) -> bool {
        let within = |list: &[Cidr], net: &Cidr| list.iter().any(|own| own.covers(net));
        let is_hole = |hole: &Cidr| {
            let touched = other
                .networks
                .as_ref()
                .is_none_or(|others| others.iter().any(|net| net.covers(hole) || hole.covers(net)));
            touched && !within(&other.except, hole)
        };
        if self.except.iter().any(is_hole) {
            return false;
        }
        let Some(own) = &self.networks else { return true };
        other.networks.as_ref().is_some_and(|others| others.iter().all(|net| within(own, net)))
    }

    fn covers_kinds(&self, other: &Self) -> bool {
        let Some(own) = &self.kinds else { return true };
        let by_kind = || {
            other.kinds.as_ref().is_some_and(|others| others.iter().all(|kind| own.contains(kind)))
        };
        let is_own = |net: &Cidr| {
            own.iter().any(|kind| match kind {
                Kind::BuiltIn(class) => class.covers(net),
                Kind::Own(networks) => networks.iter().any(|own| own.covers(net)),
            })
        };
        let by_network = || other.networks.as_ref().is_some_and(|nets| nets.iter().all(is_own));
        by_kind() || by_network()
    }

    fn covers_names(&self, other: &Self) -> bool {
        let covered = |pattern| self.names.iter().any(|own| own.covers(pattern));
        self.names.is_empty() || (!other.names.is_empty() && other.names.iter().all(covered))
    }
}
