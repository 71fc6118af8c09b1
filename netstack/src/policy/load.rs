use std::fmt;

use super::check;
use super::finding::{Finding, Step, spell};
use super::outline::{Outline, is_json};
use super::{Document, Layer};

/// Longest file: more than 20,000 rules of a usual size. A pod's annotation is
/// parsed by a process that serves other pods too.
pub const MAX_TEXT: usize = 8 << 20;

/// What is wrong in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// Which key, as in `rule[2].cidr`, and the rule's id behind it.
    pub key: String,
    /// What is wrong with it, and what to write instead.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match self.key.as_str() {
            "" => f.write_str(&self.what),
            key => write!(f, "{key}: {}", self.what),
        }
    }
}

/// A file that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The document.
    pub document: Document,
    /// Parts of it that probably do not mean what they do.
    pub warnings: Vec<Problem>,
}

impl Document {
    /// Reads a file, in JSON if it begins with a brace, else in TOML.
    pub fn load(text: &str) -> Result<Loaded, Problem> {
        if text.len() > MAX_TEXT {
            let what = format!("the file has {} bytes; at most {MAX_TEXT} are read", text.len());
            return Err(Problem { line: None, key: String::new(), what });
        }
        let document = if is_json(text) { from_json(text) } else { from_toml(text) }?;
        let mut warnings = vec![];
        check::check(&document, &mut warnings)
            .map_err(|finding| place(text, &document, &finding))?;
        // Finding the lines reads the text anew: once for all of them.
        let outline = (!warnings.is_empty()).then(|| Outline::of(text)).flatten();
        let warnings = warnings
            .iter()
            .map(|finding| placed(text, outline.as_ref(), &document, finding))
            .collect();
        Ok(Loaded { document, warnings })
    }

    /// The file as TOML.
    #[cfg(any(test, feature = "mock"))]
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

impl Layer {
    /// The layer of a tier that has a file.
    pub fn load(text: &str) -> Result<Self, Problem> {
        Document::load(text).map(|loaded| Self::Read(loaded.document.into()))
    }
}

fn from_toml(text: &str) -> Result<Document, Problem> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let at = error.span().map(|span| span.start);
        let key = match (at, Outline::of(text)) {
            (Some(at), Some(outline)) => outline.path_at(at),
            (Some(at), None) => key_of_line(text, line(text, at)),
            (None, _) => String::new(),
        };
        let what = error.message().to_owned();
        Problem { line: at.map(|at| line(text, at)), key, what }
    })
}

/// The key that a line of text that is no TOML seems to set.
fn key_of_line(text: &str, line: usize) -> String {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if key.len() <= 64 && key.chars().all(plain) { key.to_owned() } else { String::new() }
}

fn from_json(text: &str) -> Result<Document, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let line = (error.line() > 0).then(|| error.line());
        let at = offset(text, error.line(), error.column());
        let key = Outline::of(text).map(|outline| outline.path_at(at)).unwrap_or_default();
        // `line` holds the place.
        let what = error.to_string();
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
        Problem { line, key, what: what.to_owned() }
    })
}

fn place(text: &str, document: &Document, finding: &Finding) -> Problem {
    placed(text, Outline::of(text).as_ref(), document, finding)
}

fn placed(
    text: &str,
    outline: Option<&Outline>,
    document: &Document,
    finding: &Finding,
) -> Problem {
    let at = outline.and_then(|outline| outline.offset_of(&finding.path));
    let mut key = spell(&finding.path);
    if let [Step::Key("rule"), Step::Index(index), ..] = finding.path.as_slice()
        && let Some(rule) = document.rules.get(*index)
    {
        key.push_str(&format!(" (rule `{:.128}`)", rule.id));
    }
    Problem { line: at.map(|at| line(text, at)), key, what: finding.what.clone() }
}

fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Where a column of a line is; both count from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before + column.saturating_sub(1)
}
