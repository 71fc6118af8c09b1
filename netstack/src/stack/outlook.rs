use std::net::IpAddr;

use smoltcp::time::Instant;

use super::Stack;
use crate::host::HostNet;
use crate::listing::OutlookRow;
use crate::policy::{Destination, Host, Name, Names, Protocol};

/// Most addresses of one name that are answered for: whoever owns the name
/// chooses how many there are.
const ADDRESSES: usize = 64;

impl<H: HostNet> Stack<H> {
    /// What would become of a flow of the guest to a destination now, by the
    /// policy in force and the names that were learnt. Nothing is opened and
    /// nothing is in the audit. A name has a row for each address that it led
    /// to, or for `at` alone if that is given.
    pub fn outlook(
        &mut self,
        protocol: Protocol,
        destination: &Destination,
        at: Option<IpAddr>,
        now: Instant,
    ) -> Vec<OutlookRow> {
        let addresses = match (&destination.host, at) {
            (Host::Address(address), _) => vec![*address],
            (Host::Name(_), Some(address)) => vec![address],
            (Host::Name(name), None) => self.led_to(name, now),
        };
        if addresses.is_empty() {
            let told = self.policy.explain(protocol, destination, None);
            return vec![OutlookRow { address: None, names: Names::default(), told }];
        }
        let row = |address| {
            let names = self.witness.names(address, now);
            let policy = &self.policy;
            let told = match (&destination.host, at) {
                // As if the name had led there, whatever else does.
                (Host::Name(_), Some(at)) => policy.explain(protocol, destination, Some(at)),
                _ => policy.explain_known(protocol, destination, address, &names),
            };
            OutlookRow { address: Some(address), names, told }
        };
        addresses.into_iter().map(row).collect()
    }

    /// Addresses that a name led to when it was asked.
    fn led_to(&self, name: &Name, now: Instant) -> Vec<IpAddr> {
        let rows = self.names(now).into_iter().filter(|row| row.known.asked == *name);
        let mut addresses: Vec<IpAddr> = rows.map(|row| row.address).collect();
        addresses.dedup();
        addresses.truncate(ADDRESSES);
        addresses
    }
}
