use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::time;
use crate::policy::{Direction, Ground, Known, Names, Protocol, Reason, Tier};

/// The verdict of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    /// The flow was allowed.
    Allow,
    /// The flow was denied.
    Deny,
    /// A query was answered in its server's stead.
    Block,
    /// Lines that the rate left out.
    Limited,
    /// Lines that did not reach the file: the disk was full or too slow.
    Lost,
}

/// A line, its fields in the order in which they are written.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub ts: String,
    pub pod: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<SocketAddr>,
    #[serde(skip_serializing_if = "is_empty", serialize_with = "asked")]
    pub names: Arc<[Known]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    pub verdict: What,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reason")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Line {
    /// A line with a time and the pod's name.
    pub fn of(pod: &str, wall: Duration) -> Self {
        Self {
            ts: time::text(wall),
            pod: pod.to_owned(),
            flow: None,
            dir: None,
            proto: None,
            src: None,
            dst: None,
            names: Arc::new([]),
            rule: None,
            tier: None,
            verdict: What::Limited,
            reason: None,
            generation: None,
            bytes_in: None,
            bytes_out: None,
            close: None,
            count: None,
        }
    }

    /// Sets the verdict and its reason.
    pub fn ground(&mut self, what: What, ground: &Ground, names: &Names) {
        self.verdict = what;
        self.names = names.live.clone();
        self.rule = ground.rule.clone();
        self.tier = Some(ground.tier);
        self.reason = Some(ground.reason);
        self.generation = Some(ground.generation);
    }
}

fn is_empty(names: &[Known]) -> bool {
    names.is_empty()
}

fn asked<S: Serializer>(names: &[Known], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|known| known.asked.as_str()))
}

fn reason<S: Serializer>(reason: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    match reason {
        Some(reason) => serializer.collect_str(reason),
        None => serializer.serialize_none(),
    }
}
