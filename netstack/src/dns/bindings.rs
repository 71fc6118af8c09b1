use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::{Forms, Known, Names};

/// Most addresses that have names. The one that was not used for the longest
/// time makes room; a flow that lives holds its own.
pub const MAX_ADDRESSES: usize = 4096;
/// Most names of one address: hosts of many names share addresses.
pub const MAX_NAMES: usize = 16;

/// Most bytes of names. Whoever owns an allowed name may answer with chains of
/// the longest names that there are; those would be a gigabyte.
pub const MAX_BYTES: usize = 4 << 20;
/// What a name costs beside its text.
const OVERHEAD: usize = 64;

/// Which names lead to which addresses, and for how long.
#[derive(Debug, Default)]
pub struct Bindings {
    by_address: HashMap<IpAddr, Bound>,
    /// Addresses that no flow holds, by when they were used last.
    idle: BTreeSet<(u64, IpAddr)>,
    clock: u64,
    bytes: usize,
}

/// The names of one address.
#[derive(Debug)]
struct Bound {
    names: Vec<(Known, Duration)>,
    used: u64,
    holders: usize,
    /// The names that lived when it was last asked, and until when that holds.
    cached: Option<(Names, Duration)>,
}

impl Bound {
    fn bytes(&self) -> usize {
        self.names.iter().map(|(known, _)| cost(known)).sum()
    }

    fn lives(&self, expiry: Duration, now: Duration) -> bool {
        self.holders > 0 || now < expiry
    }
}

impl Bindings {
    /// Learns that a name leads to an address until `expiry`. Answers whether
    /// there was room: an address that no flow holds makes way, a name that
    /// lives does not.
    pub fn learn(
        &mut self,
        address: IpAddr,
        known: Known,
        expiry: Duration,
        now: Duration,
    ) -> bool {
        let address = Forms::of(address).canonical();
        self.touch(address);
        if !self.make_room(address, cost(&known)) {
            return false;
        }
        let fresh = || Bound { names: vec![], used: 0, holders: 0, cached: None };
        let bound = self.by_address.entry(address).or_insert_with(fresh);
        if bound.used == 0 {
            bound.used = self.clock;
            self.idle.insert((self.clock, address));
        }
        bound.cached = None;
        if let Some((_, old)) = bound.names.iter_mut().find(|(own, _)| *own == known) {
            *old = expiry.max(*old);
            return true;
        }
        if bound.names.len() >= MAX_NAMES {
            let dead = bound.names.iter().position(|(_, expiry)| !bound.lives(*expiry, now));
            let Some(dead) = dead else { return false };
            self.bytes -= cost(&bound.names.swap_remove(dead).0);
        }
        self.bytes += cost(&known);
        bound.names.push((known, expiry));
        true
    }

    /// The names of an address.
    pub fn names(&mut self, address: IpAddr, now: Duration) -> Names {
        let address = Forms::of(address).canonical();
        self.touch(address);
        let Some(bound) = self.by_address.get_mut(&address) else { return Names::default() };
        if let Some((names, until)) = &bound.cached
            && now < *until
        {
            return names.clone();
        }
        let is_live = |expiry: &Duration| bound.lives(*expiry, now);
        let live: Arc<[Known]> = bound
            .names
            .iter()
            .filter(|(_, expiry)| is_live(expiry))
            .map(|(known, _)| known.clone())
            .collect();
        let has_expired = live.is_empty() && !bound.names.is_empty();
        let later = bound.names.iter().map(|(_, expiry)| *expiry).filter(|expiry| now < *expiry);
        let until = if bound.holders > 0 { Duration::MAX } else { later.min().unwrap_or_default() };
        let names = Names { live, has_expired };
        bound.cached = Some((names.clone(), until));
        names
    }

    /// A flow to this address lives: its names stay alive with it.
    pub fn hold(&mut self, address: IpAddr) {
        let address = Forms::of(address).canonical();
        if let Some(bound) = self.by_address.get_mut(&address) {
            self.idle.remove(&(bound.used, address));
            bound.holders += 1;
            bound.cached = None;
        }
    }

    /// A flow to this address has ended.
    pub fn release(&mut self, address: IpAddr) {
        let address = Forms::of(address).canonical();
        if let Some(bound) = self.by_address.get_mut(&address)
            && bound.holders > 0
        {
            bound.holders -= 1;
            bound.cached = None;
            if bound.holders == 0 {
                self.idle.insert((bound.used, address));
            }
        }
    }

    /// Every address that has names, with them and when they end.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Known, Duration)> {
        self.by_address.iter().flat_map(|(address, bound)| {
            bound.names.iter().map(|(known, expiry)| (*address, known, *expiry))
        })
    }

    /// Bytes of names, and what holding them costs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many addresses have names.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    fn touch(&mut self, address: IpAddr) {
        self.clock += 1;
        if let Some(bound) = self.by_address.get_mut(&address) {
            if self.idle.remove(&(bound.used, address)) {
                self.idle.insert((self.clock, address));
            }
            bound.used = self.clock;
        }
    }

    /// Makes room for a name of so many bytes, if there is none.
    fn make_room(&mut self, address: IpAddr, bytes: usize) -> bool {
        let is_new = !self.by_address.contains_key(&address);
        while self.bytes + bytes > MAX_BYTES || (is_new && self.by_address.len() >= MAX_ADDRESSES) {
            // The one that is learnt was touched: it is the last to go.
            match self.idle.pop_first() {
                Some((_, other)) if other != address => {
                    let gone = self.by_address.remove(&other);
                    self.bytes -= gone.map_or(0, |bound| bound.bytes());
                }
                Some(last) => {
                    self.idle.insert(last);
                    return false;
                }
                None => return false,
            }
        }
        true
    }
}

fn cost(known: &Known) -> usize {
    let names = std::iter::once(&known.asked).chain(known.chain.iter());
    names.map(|name| name.as_str().len() + OVERHEAD).sum()
}
