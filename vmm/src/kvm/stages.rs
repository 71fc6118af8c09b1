//! The progress of the boot, for the shim and the boot benchmark.

use std::time::Instant;

use sandbox_vm_spec::launch::Report;

/// Steps of the boot that were reached and not reported yet: they are reported
/// together, since a report takes longer than most steps.
#[derive(Debug)]
pub struct Stages {
    began: Instant,
    reached: Vec<(&'static str, u64)>,
}

impl Stages {
    /// No step is reached, `began` is when the process was.
    pub fn since(began: Instant) -> Self {
        Self { began, reached: Vec::new() }
    }

    /// A step is reached now.
    pub fn reach(&mut self, name: &'static str) {
        self.reached.push((name, self.began.elapsed().as_micros() as u64));
    }

    /// The steps since the last call, as reports.
    pub fn take(&mut self) -> Vec<Report> {
        let report = |(name, micros): (&str, u64)| Report::Stage { name: name.into(), micros };
        self.reached.drain(..).map(report).collect()
    }
}
