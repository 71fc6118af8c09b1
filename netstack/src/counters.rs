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
    /// Flows that were ended for newer ones, as nothing was heard of them.
    pub flows_reaped: u64,
    /// Connections of the guest to itself, around outside, refused because there
    /// were too many.
    pub hairpins_refused: u64,
    /// Sockets that the host would not give.
    pub sockets_failed: u64,
    /// FINs held off because what is before them was cut.
    pub fins_held: u64,
    /// Datagrams dropped for want of room on the way to the guest.
    pub datagrams_dropped: u64,
    /// Datagrams of peers that the guest has not written to.
    pub strangers: u64,
    /// Listeners that could not be bound.
    pub listeners_failed: u64,
    /// Why the last frame was refused.
    refusal: Option<&'static str>,
}

impl Counters {
    /// All of them, with their names.
    pub fn list(&self) -> Vec<(String, u64)> {
        let named = [
            ("datagrams.dropped", self.datagrams_dropped),
            ("datagrams.strangers", self.strangers),
            ("flows.denied", self.denied),
            ("flows.full", self.flows_full),
            ("flows.hairpins-refused", self.hairpins_refused),
            ("flows.opened", self.opened),
            ("flows.reaped", self.flows_reaped),
            ("frames", self.frames),
            ("listeners.failed", self.listeners_failed),
            ("sockets.failed", self.sockets_failed),
            ("tcp.dials-dropped", self.dials_dropped),
            ("tcp.dials-evicted", self.dials_evicted),
            ("tcp.fins-held", self.fins_held),
        ];
        let refused = self.refused.iter();
        let refused = refused.map(|(reason, count)| {
            (format!("refused.{}", reason.to_lowercase().replace(' ', "-")), *count)
        });
        named.map(|(name, count)| (name.to_owned(), count)).into_iter().chain(refused).collect()
    }

    /// Counts a frame that goes no further.
    pub fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
        self.refusal = Some(reason);
    }

    /// Why a frame was refused since this was asked last, if one was.
    pub(crate) fn refusal(&mut self) -> Option<&'static str> {
        self.refusal.take()
    }
}
