//! Passes the frames of the link to a capture.
//!
//! A frame of the guest is kept until it is known what became of it, and what
//! is sent meanwhile comes behind it: so a capture has the frames in their
//! order, each with its flow and the verdict.

use std::sync::Arc;

use smoltcp::time::Instant;

use crate::pcap::Way;

/// Captures frames.
pub trait Capture: Send + Sync {
    /// A frame went over the link. What is known of it is in `comment`.
    fn frame(&self, now: Instant, way: Way, frame: &[u8], comment: &str);
}

/// Stands between the link and the capture.
pub(crate) struct CaptureTap {
    capture: Option<Arc<dyn Capture>>,
    now: Instant,
    /// Which flow what is sent belongs to; 0 is none.
    flow: u64,
    held: Option<Held>,
}

/// A frame of the guest of which it is not known yet what becomes of it.
#[derive(Default)]
struct Held {
    frame: Vec<u8>,
    said: String,
    replies: Vec<(Vec<u8>, String)>,
}

impl Default for CaptureTap {
    fn default() -> Self {
        Self { capture: None, now: Instant::ZERO, flow: 0, held: None }
    }
}

impl std::fmt::Debug for CaptureTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureTap").field("runs", &self.capture.is_some()).finish_non_exhaustive()
    }
}

impl CaptureTap {
    /// Begins to capture, or ends.
    pub fn run(&mut self, capture: Option<Arc<dyn Capture>>) {
        (self.capture, self.held) = (capture, None);
    }

    /// A turn begins.
    pub fn turn(&mut self, now: Instant) {
        (self.now, self.flow) = (now, 0);
    }

    /// What follows is about this flow.
    pub fn about(&mut self, flow: u64) {
        self.flow = flow;
    }

    /// A frame of the guest.
    pub fn take(&mut self, frame: &[u8]) {
        self.flow = 0;
        if self.capture.is_some() {
            self.held = Some(Held { frame: frame.to_vec(), ..Held::default() });
        }
    }

    /// What became of the guest's frame.
    pub fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(held) = &mut self.held
            && held.said.is_empty()
        {
            held.said = what();
        }
    }

    /// A frame to the guest.
    pub fn send(&mut self, frame: &[u8]) {
        let Some(capture) = &self.capture else { return };
        let comment = comment(self.flow, "");
        match &mut self.held {
            Some(held) => held.replies.push((frame.to_vec(), comment)),
            None => capture.frame(self.now, Way::In, frame, &comment),
        }
    }

    /// All is known of the guest's frame that will be.
    pub fn done(&mut self) {
        let (Some(capture), Some(held)) = (&self.capture, self.held.take()) else { return };
        capture.frame(self.now, Way::Out, &held.frame, &comment(self.flow, &held.said));
        for (frame, comment) in held.replies {
            capture.frame(self.now, Way::In, &frame, &comment);
        }
        self.flow = 0;
    }
}

fn comment(flow: u64, said: &str) -> String {
    match (flow, said) {
        (0, said) => said.to_owned(),
        (flow, "") => format!("flow {flow}"),
        (flow, said) => format!("flow {flow}: {said}"),
    }
}
