//! Figures: what was measured of each case and backend, run by run.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::backend::Kind;
use crate::deadline::Stalled;

/// What a figure counts, and whether less of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bits of payload per second.
    Gbit,
    /// CPU of the backend.
    NanosPerByte,
    /// Round trips.
    Micros,
    /// Connections per second.
    Rate,
    /// Resident memory.
    Mebibytes,
    /// The same of one flow.
    Kibibytes,
}

impl Unit {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gbit => "Gbit/s",
            Self::NanosPerByte => "ns/B",
            Self::Micros => "µs",
            Self::Rate => "1/s",
            Self::Mebibytes => "MiB",
            Self::Kibibytes => "KiB",
        }
    }

    /// Whether the smaller of two is the better one.
    pub fn less_is_better(self) -> bool {
        !matches!(self, Self::Gbit | Self::Rate)
    }
}

/// What a backend came to in a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub case: String,
    /// Of whom.
    pub kind: Kind,
    /// In what.
    pub unit: Unit,
    /// Of each run, at least one.
    values: Vec<f64>,
}

impl Figure {
    /// The middle of the runs; of two middles the lower.
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[(sorted.len() - 1) / 2]
    }

    /// The least and the most of them.
    pub fn range(&self) -> (f64, f64) {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }
}

/// All of them, in the order in which they were first measured, and what of
/// ours could not be.
#[derive(Debug, Default)]
pub struct Figures(Vec<Figure>, Vec<String>, Vec<(String, Kind)>);

impl Figures {
    /// Adds what one run came to.
    pub fn add(&mut self, case: &str, kind: Kind, unit: Unit, value: f64) {
        match self.0.iter_mut().find(|figure| figure.case == case && figure.kind == kind) {
            Some(figure) => figure.values.push(value),
            None => {
                let values = vec![value];
                self.0.push(Figure { case: case.to_owned(), kind, unit, values });
            }
        }
    }

    /// Notes that a case could not be measured, and why. Tools that fail in a
    /// case do not keep the others from being measured.
    pub fn fail(&mut self, case: &str, kind: Kind, error: &anyhow::Error) {
        if error.is::<Stalled>() {
            self.2.push((case.to_owned(), kind));
        }
        let line = format!("{}/{case}: {error:#}", kind.name());
        eprintln!("bench net: {line}");
        if kind.is_ours() {
            self.1.push(line);
        }
    }

    /// How often a case of that name, or one that is told by it, stalled.
    pub fn stalls(&self, case: &str, kind: Kind) -> usize {
        let told =
            |by: &str| case == by || case.strip_prefix(by).is_some_and(|p| p.starts_with("/p"));
        self.2.iter().filter(|(by, of)| *of == kind && told(by)).count()
    }

    /// Whether none of ours failed.
    pub fn whole(&self) -> Result<()> {
        ensure!(self.1.is_empty(), "not measured: {}", self.1.join("; "));
        Ok(())
    }

    /// Whether none of ours is worse than its peer by more than `worst` times.
    pub fn fair(&self, worst: f64) -> Result<()> {
        let unfair = |figure: &&Figure| {
            self.peer(figure).is_some_and(|peer| {
                let ratio = figure.median() / peer.median();
                (if figure.unit.less_is_better() { ratio } else { 1.0 / ratio }) > worst
            })
        };
        let found: Vec<_> =
            self.0.iter().filter(unfair).map(|f| self.line(f).to_string()).collect();
        ensure!(found.is_empty(), "worse than {worst} times the better tool: {}", found.join(" "));
        Ok(())
    }

    /// That of a case and a backend.
    pub fn get(&self, case: &str, kind: Kind) -> Option<&Figure> {
        self.0.iter().find(|figure| figure.case == case && figure.kind == kind)
    }

    /// Cases whose name begins so, each once.
    pub fn cases(&self, prefixes: &[&str]) -> Vec<&str> {
        let mut cases = Vec::new();
        for figure in &self.0 {
            let wanted = prefixes.iter().any(|prefix| figure.case.starts_with(prefix));
            if wanted && !cases.contains(&figure.case.as_str()) {
                cases.push(figure.case.as_str());
            }
        }
        cases
    }

    /// Whom a figure of ours is compared with: the better of the two tools, and
    /// with rules, ourselves without them.
    pub fn peer(&self, of: &Figure) -> Option<&Figure> {
        let peers = match of.kind {
            Kind::Netstack { rules: Some(_), .. } => {
                vec![Kind::Netstack { offload: true, rules: None }]
            }
            Kind::Netstack { rules: None, .. } => vec![Kind::Pasta, Kind::Slirp],
            _ => return None,
        };
        let found = peers.into_iter().filter_map(|kind| self.get(&of.case, kind));
        if of.unit.less_is_better() {
            found.min_by(|a, b| a.median().total_cmp(&b.median()))
        } else {
            found.max_by(|a, b| a.median().total_cmp(&b.median()))
        }
    }

    /// One line of JSON for each.
    pub fn lines(&self) -> Vec<String> {
        let told = self.0.iter().map(|figure| self.line(figure).to_string());
        told.chain(self.2.iter().map(|(case, kind)| stalled(case, *kind).to_string())).collect()
    }

    fn line(&self, figure: &Figure) -> Value {
        let (least, most) = figure.range();
        let mut line = json!({
            "bench": "net", "case": format!("{}/{}", figure.kind.name(), figure.case),
            "value": rounded(figure.median()), "unit": figure.unit.name(),
            "min": rounded(least), "max": rounded(most), "runs": figure.values.len(),
        });
        if let Some(peer) = self.peer(figure) {
            line["peer"] = json!(peer.kind.name());
            line["peer_value"] = rounded(peer.median());
            line["ratio"] = rounded(figure.median() / peer.median());
        }
        if let (Kind::Netstack { .. }, Some(kernel)) =
            (figure.kind, self.get(&figure.case, Kind::Veth))
        {
            line["kernel_value"] = rounded(kernel.median());
        }
        line
    }
}

fn stalled(case: &str, kind: Kind) -> Value {
    json!({
        "bench": "net", "case": format!("{}/{case}", kind.name()), "value": null, "stalled": true,
    })
}

fn rounded(value: f64) -> Value {
    json!((value * 1e3).round() / 1e3)
}

#[cfg(test)]
mod tests;
