//! The network policy, from inside of microVMs: what it lets through, what it
//! refuses, and what is seen of both.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use sandbox_tests::{Bed, Run, Shell, until};
use serde_json::Value;

pub mod files;
pub mod frames;
pub mod live;
pub mod node;
pub mod reach;
pub mod seen;

/// Nothing but one port of one name.
const ONE_NAME: &str = r#"
version = 1

[[rule]]
id = "api"
dir = "egress"
action = "allow"
proto = ["tcp"]
ports = [443]
name = ["api.world.test"]
"#;

/// What the toolbox tells of a connection that was refused.
const REFUSED: &str = "connect=ECONNREFUSED recv=ENOTCONN";
/// What it tells of one of the servers that say hello.
const HELLO: &str = "connect=ok line=hello";

fn audit_dir(bed: &Bed) -> PathBuf {
    bed.dir().join("audit")
}

/// Configures the bed: the node's policy, if any, the folder of those that
/// pods may name, and audits that outlive their pods.
fn configure(bed: &Bed, node: Option<&str>) {
    let policies = bed.dir().join("policies");
    for dir in [&policies, &audit_dir(bed)] {
        fs::create_dir_all(dir).unwrap();
    }
    let mut lines = format!(
        "[network]\npolicies = {:?}\naudit_dir = {:?}\n",
        policies.display().to_string(),
        audit_dir(bed).display().to_string()
    );
    if let Some(text) = node {
        let path = bed.dir().join("node.toml");
        fs::write(&path, text).unwrap();
        lines.push_str(&format!("policy = {:?}\n", path.display().to_string()));
    }
    bed.configure(&lines);
}

/// A container of the test's pod with this policy of its own.
fn with<'a>(bed: &'a Bed, policy: Option<&str>) -> impl FnOnce(Run<'a>) -> Run<'a> {
    let flag = policy.map(|text| format!("--annotation=io.sandbox.network-policy={text}"));
    move |run| run.pod(bed.network().pod()).flags(&flag.into_iter().collect::<Vec<_>>())
}

/// One that does lines of shell.
fn shell<'a>(bed: &'a Bed, policy: Option<&str>) -> Shell<'a> {
    bed.shell("a", with(bed, policy))
}

/// Every line of every audit of the bed.
fn audit(bed: &Bed) -> Vec<Value> {
    let files = fs::read_dir(audit_dir(bed)).unwrap().map(|entry| entry.unwrap().path());
    let mut lines = vec![];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // The last may be in the making.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        lines.extend(whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    lines
}

/// Waits for a line in which each of these fields has this value.
fn audited(bed: &Bed, fields: &[(&str, &str)]) -> Value {
    until(&format!("an audit line with {fields:?}"), Duration::from_secs(5), || {
        audit(bed).into_iter().find(|line| has(line, fields))
    })
}

fn has(line: &Value, fields: &[(&str, &str)]) -> bool {
    fields.iter().all(|(name, value)| match &line[*name] {
        Value::String(found) => found == value,
        Value::Array(all) => all.iter().any(|one| one == value),
        _ => false,
    })
}

/// Tells which lines are missing, with all there are.
fn all_audited(bed: &Bed, wanted: &[Vec<(&str, &str)>]) {
    let missing = |lines: &[Value]| -> Vec<String> {
        let is_there = |fields: &[(&str, &str)]| lines.iter().any(|line| has(line, fields));
        wanted.iter().filter(|f| !is_there(f)).map(|fields| format!("{fields:?}")).collect()
    };
    let end = std::time::Instant::now() + sandbox_tests::patience(Duration::from_secs(5));
    loop {
        let lines = audit(bed);
        let missing = missing(&lines);
        if missing.is_empty() {
            return;
        }
        if std::time::Instant::now() > end {
            let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
            panic!("not in the audit:\n{}\nall of it:\n{}", missing.join("\n"), lines.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
