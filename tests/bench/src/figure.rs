//! Boots as a table for people and JSON lines for programs.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

/// One boot, from the exec of the first process.
pub struct Boot {
    /// When each stage ended, in order; the last is the whole.
    pub marks: Vec<(String, Duration)>,
}

/// The boots of one kind of machine.
pub struct Case {
    /// `<machine>/<what is reached>`.
    pub name: String,
    /// At least one.
    pub boots: Vec<Boot>,
}

impl Boot {
    fn whole(&self) -> Duration {
        self.marks.last().map_or(Duration::ZERO, |(_, at)| *at)
    }

    /// How long each stage took.
    fn stages(&self) -> Vec<(&str, f64)> {
        let starts = [Duration::ZERO].into_iter().chain(self.marks.iter().map(|(_, at)| *at));
        starts
            .zip(&self.marks)
            .map(|(start, (name, end))| (name.as_str(), end.saturating_sub(start).as_secs_f64()))
            .collect()
    }
}

impl Case {
    /// The value below which `percent` of the boots are.
    fn percentile(&self, percent: usize) -> f64 {
        self.ranked()[rank(self.boots.len(), percent)].whole().as_secs_f64()
    }

    /// The boot in the middle: its stages are those that are shown.
    fn median(&self) -> &Boot {
        self.ranked()[rank(self.boots.len(), 50)]
    }

    fn ranked(&self) -> Vec<&Boot> {
        let mut boots: Vec<_> = self.boots.iter().collect();
        boots.sort_by_key(|boot| boot.whole());
        boots
    }
}

/// Nearest-rank percentile: index into a sorted list of `len`.
fn rank(len: usize, percent: usize) -> usize {
    (len * percent).div_ceil(100).clamp(1, len) - 1
}

/// One JSON line for each case. The first case is ours; its peer is the best
/// of the others.
pub fn lines(bench: &str, cases: &[Case]) -> Vec<String> {
    let best = cases.iter().skip(1).min_by(|a, b| a.percentile(50).total_cmp(&b.percentile(50)));
    cases
        .iter()
        .enumerate()
        .map(|(index, case)| {
            let value = case.percentile(50);
            let mut line = json!({
                "bench": bench, "case": case.name, "value": rounded(value), "unit": "s",
                "p95": rounded(case.percentile(95)), "p99": rounded(case.percentile(99)),
                "runs": case.boots.len(), "stages": stages(case.median()),
            });
            if let (0, Some(peer)) = (index, best) {
                let peer_value = peer.percentile(50);
                line["peer"] = json!(peer.name.split('/').next());
                line["peer_value"] = rounded(peer_value);
                line["ratio"] = json!((value / peer_value * 100.0).round() / 100.0);
            }
            line.to_string()
        })
        .collect()
}

fn stages(boot: &Boot) -> Value {
    boot.stages().into_iter().map(|(name, took)| (name.to_owned(), rounded(took))).collect()
}

/// Microseconds are as fine as the clock of the lab is true.
fn rounded(seconds: f64) -> Value {
    json!((seconds * 1e6).round() / 1e6)
}

/// The cases below each other, then the stages of the median boot of each.
pub fn table(cases: &[Case]) -> String {
    let mut text = format!("{:<28}{:>9}{:>9}{:>9}   ms\n", "", "p50", "p95", "p99");
    for case in cases {
        let [p50, p95, p99] = [50, 95, 99].map(|p| case.percentile(p) * 1e3);
        let _ = writeln!(text, "{:<28}{p50:>9.2}{p95:>9.2}{p99:>9.2}", case.name);
        for (name, took) in case.median().stages() {
            let _ = writeln!(text, "    {name:<24}{:>9.2}", took * 1e3);
        }
    }
    text
}

#[cfg(test)]
mod tests;
