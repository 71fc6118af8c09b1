use std::collections::HashMap;
use std::net::IpAddr;

use super::matcher::{Matcher, Probe};
use super::{Action, Cidr, Name, Pattern, Ports};

/// Most ports of a rule that are looked up one by one; beyond it the rule is
/// compared, so that one rule does not fill the table.
const MAX_SPREAD: usize = 16;

/// Finds the rules that may match without comparing each: by the networks that
/// an address is in, by port, and by the names that lead to it. Rules are
/// numbers, and every list of them is in the order of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    v4: Networks,
    v6: Networks,
    exact: HashMap<Name, Vec<u32>>,
    below: HashMap<Name, Vec<u32>>,
    blind: Blind,
}

/// The rules without names that decide where no address is known: whatever the
/// query is, these are the only ones, so that of thousands a few are compared.
#[derive(Clone, Debug, Default)]
struct Blind {
    rules: Vec<u32>,
    /// Of those that allow: the first, and the first that is not for DNS.
    allows: [bool; 2],
    passes: bool,
    /// The last one decides on everything.
    is_full: bool,
}

#[derive(Clone, Debug, Default)]
struct Networks {
    /// The prefixes' lengths that occur.
    lengths: Vec<u8>,
    by_prefix: HashMap<(u8, u128), Bucket>,
}

/// The rules of one network.
#[derive(Clone, Debug, Default)]
struct Bucket {
    by_port: HashMap<u16, Vec<u32>>,
    /// Those for ranges, and for any port.
    rest: Vec<u32>,
    all: Vec<u32>,
    /// The last list ends with a rule that matches whatever comes here.
    is_full: bool,
}

impl Index {
    /// Adds a rule; numbers must grow.
    pub fn add(&mut self, number: u32, rule: &Matcher) {
        if rule.names.is_empty() {
            for cell in rule.cells() {
                let networks = self.networks_mut(cell.address());
                networks.add(number, rule, &cell);
            }
            self.blind.add(number, rule);
            return;
        }
        for pattern in &rule.names {
            let list = match pattern {
                Pattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
                Pattern::Below(apex) => self.below.entry(apex.clone()).or_default(),
            };
            if list.last() != Some(&number) {
                list.push(number);
            }
        }
    }

    /// The rules that may match, in order.
    pub fn find(&self, probe: &Probe<'_>) -> Ordered<'_> {
        let mut lists = vec![];
        self.networks(probe.address).find(probe.address, 0, Some(probe.flow.port), &mut lists);
        if let Some(known) = probe.known {
            self.named(std::iter::once(&known.asked).chain(known.chain.iter()), &mut lists);
        }
        Ordered { lists }
    }

    /// The rules that may match a flow of which the port is not known, and
    /// perhaps not the address.
    pub fn find_partial<'n>(
        &self,
        address: Option<IpAddr>,
        names: impl Iterator<Item = &'n Name>,
    ) -> Ordered<'_> {
        let mut lists = vec![];
        match address {
            Some(address) => self.networks(address).find(address, 0, None, &mut lists),
            None => lists.push(self.blind.rules.as_slice()),
        }
        self.named(names, &mut lists);
        Ordered { lists }
    }

    /// The rules that may match everything that this one does.
    pub fn find_covering(&self, rule: &Matcher) -> Ordered<'_> {
        let mut lists = vec![];
        let port = rule.ports.as_ref().and_then(|ports| ports.first()).and_then(Ports::single);
        if let Some(cell) = rule.cells().first() {
            let networks = self.networks(cell.address());
            match port {
                Some(port) => {
                    networks.find(cell.address(), cell.length(), Some(port), &mut lists);
                }
                None => networks.find_rest(cell, &mut lists),
            }
        }
        let exact = match rule.names.first() {
            Some(Pattern::Exact(name)) => self.exact.get(name),
            _ => None,
        };
        lists.extend(exact.map(Vec::as_slice));
        let name = rule.names.first().map(|pattern| match pattern {
            Pattern::Exact(name) | Pattern::Below(name) => name,
        });
        let above = name.into_iter().flat_map(Name::ancestry);
        lists.extend(above.filter_map(|name| self.below.get(name)).map(Vec::as_slice));
        Ordered { lists }
    }

    fn named<'a, 'n>(&'a self, names: impl Iterator<Item = &'n Name>, lists: &mut Vec<&'a [u32]>) {
        for name in names {
            lists.extend(self.exact.get(name).map(Vec::as_slice));
            if !self.below.is_empty() {
                let above = name.ancestry().skip(1);
                lists.extend(above.filter_map(|name| self.below.get(name)).map(Vec::as_slice));
            }
        }
    }

    fn networks(&self, address: IpAddr) -> &Networks {
        if address.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    fn networks_mut(&mut self, address: IpAddr) -> &mut Networks {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

impl Blind {
    fn add(&mut self, number: u32, rule: &Matcher) {
        let [allows_dns, allows] = &mut self.allows;
        let is_first = match rule.action {
            Action::Allow if rule.is_for_dns() => !std::mem::replace(allows_dns, true),
            Action::Allow => !std::mem::replace(allows, true),
            Action::Pass => !std::mem::replace(&mut self.passes, true),
            // It may deny some of the unknown: that decides on nothing.
            Action::Deny => false,
        };
        if !self.is_full && (is_first || rule.is_certain()) {
            self.rules.push(number);
        }
        self.is_full |= rule.is_certain();
    }
}

impl Networks {
    fn add(&mut self, number: u32, rule: &Matcher, cell: &Cidr) {
        let length = cell.length();
        if !self.lengths.contains(&length) {
            self.lengths.push(length);
        }
        let key = (length, masked(cell.address(), length));
        self.by_prefix.entry(key).or_default().add(number, rule);
    }

    /// The lists of every network with the address whose prefix is at most as
    /// long as `most`; 0 for any.
    fn find<'a>(
        &'a self,
        address: IpAddr,
        most: u8,
        port: Option<u16>,
        lists: &mut Vec<&'a [u32]>,
    ) {
        for length in self.lengths.iter().filter(|length| most == 0 || **length <= most) {
            let Some(bucket) = self.by_prefix.get(&(*length, masked(address, *length))) else {
                continue;
            };
            match port {
                Some(port) => {
                    lists.extend(bucket.by_port.get(&port).map(Vec::as_slice));
                    lists.push(&bucket.rest);
                }
                None => lists.push(&bucket.all),
            }
        }
    }

    /// The same, of rules for ranges and any port alone.
    fn find_rest<'a>(&'a self, cell: &Cidr, lists: &mut Vec<&'a [u32]>) {
        for length in self.lengths.iter().filter(|length| **length <= cell.length()) {
            let bucket = self.by_prefix.get(&(*length, masked(cell.address(), *length)));
            lists.extend(bucket.map(|bucket| bucket.rest.as_slice()));
        }
    }
}

impl Bucket {
    fn add(&mut self, number: u32, rule: &Matcher) {
        if self.is_full {
            return;
        }
        let singles: Option<Vec<u16>> = rule
            .ports
            .as_ref()
            .filter(|ports| ports.len() <= MAX_SPREAD)
            .and_then(|ports| ports.iter().map(Ports::single).collect());
        match singles {
            Some(ports) => {
                for port in ports {
                    push(self.by_port.entry(port).or_default(), number);
                }
            }
            None => push(&mut self.rest, number),
        }
        push(&mut self.all, number);
        self.is_full = rule.ports.is_none() && rule.is_plain();
    }
}

fn push(list: &mut Vec<u32>, number: u32) {
    if list.last() != Some(&number) {
        list.push(number);
    }
}

/// The first `length` bits of an address.
fn masked(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let drop = width - u32::from(length).min(width);
    bits.checked_shr(drop).unwrap_or(0)
}

/// Several lists as one, each number once, in order.
pub(super) struct Ordered<'a> {
    lists: Vec<&'a [u32]>,
}

impl Iterator for Ordered<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let least = self.lists.iter().filter_map(|list| list.first()).min().copied()?;
        for list in &mut self.lists {
            if let Some((first, rest)) = list.split_first()
                && *first == least
            {
                *list = rest;
            }
        }
        Some(least)
    }
}
