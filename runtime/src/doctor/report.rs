use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it must be.
    Ok,
    /// Sandboxes run, but something is not as one would want it.
    Warning,
    /// No sandbox can run.
    Missing,
}

impl Level {
    /// The word for people.
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in words.
    pub detail: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// What was found, for programs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<&'static str, String>,
}

impl Check {
    fn new(name: &'static str, level: Level, detail: impl Into<String>) -> Self {
        Self { name, level, detail: detail.into(), fix: None, facts: BTreeMap::new() }
    }

    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Level::Ok, detail)
    }

    pub(super) fn warning(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Level::Warning, detail)
    }

    pub(super) fn missing(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Level::Missing, detail)
    }

    pub(super) fn fix(self, command: impl Into<String>) -> Self {
        Self { fix: Some(command.into()), ..self }
    }

    pub(super) fn fact(mut self, key: &'static str, value: &str) -> Self {
        self.facts.insert(key, value.to_owned());
        self
    }
}

/// All findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which people read them.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    pub(super) fn extend(&mut self, checks: impl IntoIterator<Item = Check>) {
        self.checks.extend(checks);
    }

    /// Whether sandboxes can run here.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.level != Level::Missing)
    }

    /// The finding of this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// For people: a line for each finding, and below it the command that
    /// mends it.
    pub fn text(&self) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for check in &self.checks {
            let level = check.level.as_str();
            // Writing to a String does not fail.
            let _ = writeln!(text, "{level:<8} {:<width$}  {}", check.name, check.detail);
            if let Some(fix) = &check.fix {
                let _ = writeln!(text, "{:8} {:<width$}  run: {fix}", "", "");
            }
        }
        text.push_str(if self.is_ready() {
            "\nSandboxes can run here.\n"
        } else {
            "\nSandboxes cannot run here: see what is missing above.\n"
        });
        text
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "ready": self.is_ready(), "checks": self.checks })
    }
}
