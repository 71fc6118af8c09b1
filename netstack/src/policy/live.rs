use std::sync::Arc;

use super::{Flow, Layer, Names, Permit, Place, Policy, Verdict};

/// The policy in force, and how it is replaced while flows live.
#[derive(Debug)]
pub struct Live {
    policy: Arc<Policy>,
}

impl Live {
    /// Starts with these files. A broken one allows nothing.
    pub fn new(node: &Layer, pod: &Layer, place: Place) -> Self {
        Self { policy: Arc::new(Policy::new(node, pod, place, 1)) }
    }

    /// What is in force.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Decides on a flow.
    pub fn decide(&self, flow: &Flow, names: &Names) -> Verdict {
        self.policy.decide(flow, names)
    }

    /// Puts other files in force for every flow from now on, and answers the
    /// new generation. Flows that live keep their verdict until
    /// [`recheck`](Self::recheck) is asked about them.
    pub fn replace(&mut self, node: &Layer, pod: &Layer, place: Place) -> u64 {
        let generation = self.policy.generation() + 1;
        self.policy = Arc::new(Policy::new(node, pod, place, generation));
        generation
    }

    /// Decides anew on a flow that lives, by the names that it was allowed by.
    pub fn recheck(&self, permit: &Permit) -> Verdict {
        self.policy.decide(permit.flow(), permit.names())
    }
}
