//! What was refused or dropped, by reason; nothing is lost in silence.

use std::collections::BTreeMap;

/// Counts since the stack was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that the gate let in.
    pub frames: u64,
    /// Frames that it refused, and what is no use behind it, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Flows that the policy refused.
    pub denied: u64,
    /// Flows that were opened.
    pub opened: u64,
    /// SYNs dropped because too many attempts were under way.
    pub dials_dropped: u64,
    /// Attempts given up for newer ones.
    pub dials_evicted: u64,
    /// Flows refused because there were too many.
    pub flows_full: u64,
    /// Sockets that the host would not give.
    pub sockets_failed: u64,
    /// FINs held off because what is before them was cut.
    pub fins_held: u64,
    /// Datagrams dropped for want of room on the way to the guest.
    pub datagrams_dropped: u64,
    /// Datagrams of somebody whom the guest has not written to.
    pub strangers: u64,
    /// Listeners that could not be bound.
    pub listeners_failed: u64,
}

impl Counters {
    /// Counts a frame that goes no further.
    pub fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }
}
