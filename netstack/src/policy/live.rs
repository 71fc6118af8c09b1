use std::sync::Arc;

use super::{Flow, Layer, Names, Permit, Place, Policy, Problem, Verdict};

/// The policy in force, and how it is replaced while flows live.
#[derive(Clone, Debug)]
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

    /// The same with the texts of files, if both can be read: else what was in
    /// force stays.
    pub fn offer(
        &mut self,
        node: Option<&str>,
        pod: Option<&str>,
        place: Place,
    ) -> Result<u64, Problem> {
        let (node, wrong_node) = Layer::load(node);
        let (pod, wrong_pod) = Layer::load(pod);
        match wrong_node.or(wrong_pod) {
            Some(problem) => Err(problem),
            None => Ok(self.replace(&node, &pod, place)),
        }
    }

    /// Decides anew on a flow that lives, by the names that it was allowed by.
    pub fn recheck(&self, permit: &Permit) -> Verdict {
        self.policy.decide(permit.flow(), permit.names())
    }
}
