use serde_json::Value;

use crate::show::{bytes, json, plain};

/// A line of the audit, or what stands in its place.
pub enum Line {
    Read(Value),
    Odd(String),
}

impl Line {
    /// Reads a line of JSON.
    pub fn read(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Self::Read(Value::Object(fields)),
            _ => Self::Odd(text.to_owned()),
        }
    }

    /// Whether it reports an allowed flow.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Read(fields) if fields["verdict"] == "allow")
    }

    /// For people or programs, with its newline.
    pub fn text(&self, as_json: bool) -> serde_json::Result<String> {
        match self {
            Self::Read(fields) if as_json => json(fields, false),
            Self::Odd(text) if as_json => json(text, false),
            Self::Read(fields) => Ok(format!("{}\n", shown(fields).trim_end())),
            Self::Odd(text) => Ok(format!("not a line of an audit: {}\n", plain(text))),
        }
    }
}

fn shown(line: &Value) -> String {
    let field = |name: &str| match &line[name] {
        Value::String(text) => plain(text),
        Value::Null => String::new(),
        other => plain(&other.to_string()),
    };
    let time = field("ts");
    let verdict = field("verdict");
    if line["dst"].is_null() {
        let what = if verdict == "lost" { "lines are lost so far" } else { "lines were too many" };
        return format!("{time}  {verdict:<7}  {} {what}", field("count"));
    }
    let ends = format!("{} -> {}", field("src"), field("dst"));
    format!(
        "{time}  {verdict:<7}  {:<7}  {:<4}  {ends:<44}  {:<24}  {:<20}  {}",
        field("dir"),
        field("proto"),
        names(&line["names"]),
        ground(&field),
        rest(line, &field),
    )
}

fn names(names: &Value) -> String {
    let names = names.as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<String> = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    super::super::called(&names)
}

/// Whose word it was: a rule's, or that of the tier for another reason.
fn ground(field: &impl Fn(&str) -> String) -> String {
    let (rule, reason) = (field("rule"), field("reason"));
    let word = match reason.as_str() {
        "rule" | "" => rule,
        _ if rule.is_empty() => reason,
        _ => format!("{rule} ({reason})"),
    };
    format!("{}:{word}", field("tier"))
}

/// What has become of it.
fn rest(line: &Value, field: &impl Fn(&str) -> String) -> String {
    let mut rest = Vec::new();
    if let Some(count) = line["count"].as_u64() {
        rest.push(format!("{count} times"));
    }
    if let (Some(out), Some(into)) = (line["bytes_out"].as_u64(), line["bytes_in"].as_u64()) {
        rest.push(format!("{} sent, {} received", bytes(out), bytes(into)));
    }
    let close = field("close");
    if !close.is_empty() {
        rest.push(close);
    }
    rest.join(", ")
}
