#![allow(clippy::unwrap_used)]

use super::*;
use crate::tests::fake::Fake;

fn flow(id: u64, remote: &str, names: &[&str]) -> FlowRow {
    FlowRow {
        id,
        dir: "egress".into(),
        proto: "tcp".into(),
        guest: "10.0.0.2:40000".parse().unwrap(),
        remote: remote.parse().unwrap(),
        state: "open".into(),
        rule: "api".into(),
        tier: "pod".into(),
        names: names.iter().map(ToString::to_string).collect(),
        sent: 512,
        received: 5 << 20,
        age_ms: 61_000,
        idle_ms: 20,
    }
}

fn text_of(reply: Reply, as_json: bool, many: bool) -> Result<String, String> {
    let mut fake = Fake::new(vec![reply]);
    let text = text(&mut fake.client, as_json, many).map_err(|error| error.to_string());
    assert_eq!(fake.asked(), [Request::Flows]);
    text
}

#[test]
fn flows_are_a_table() {
    let flows = vec![
        flow(1, "203.0.113.9:443", &["api.example.com", "www.example.com", "example.com"]),
        flow(20, "[2001:db8::1]:53", &[]),
    ];
    let text = text_of(Reply::Flows { flows }, false, false).unwrap();
    assert_eq!(
        text,
        "FLOW  DIR     PROTO  GUEST           REMOTE            NAME                STATE  SENT   RECEIVED  AGE   IDLE  RULE\n\
         1     egress  tcp    10.0.0.2:40000  203.0.113.9:443   api.example.com +2  open   512 B  5.0 MiB   1m1s  20ms  pod:api\n\
         20    egress  tcp    10.0.0.2:40000  [2001:db8::1]:53  -                   open   512 B  5.0 MiB   1m1s  20ms  pod:api\n"
    );
}

#[test]
fn programs_get_json() {
    let flows = vec![flow(1, "203.0.113.9:443", &["a\u{1b}[2J"])];
    let reply = || Reply::Flows { flows: flows.clone() };
    let pretty = text_of(reply(), true, false).unwrap();
    assert_eq!(serde_json::from_str::<Vec<FlowRow>>(&pretty).unwrap(), flows);
    let line = text_of(reply(), true, true).unwrap();
    assert_eq!(line.matches('\n').count(), 1);
    assert_eq!(serde_json::from_str::<Vec<FlowRow>>(&line).unwrap(), flows);
}

#[test]
fn a_hostile_process_writes_nothing_to_the_terminal() {
    let mut flow = flow(1, "203.0.113.9:443", &["x\u{1b}]0;owned\u{7}"]);
    for field in [&mut flow.dir, &mut flow.proto, &mut flow.state, &mut flow.rule, &mut flow.tier] {
        *field = "\u{1b}[31m\n".repeat(1000);
    }
    let text = text_of(Reply::Flows { flows: vec![flow] }, false, false).unwrap();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    assert_eq!(text.lines().count(), 2);
    assert!(text.len() < 20_000, "{}", text.len());
    let error = text_of(Reply::Done, false, false).unwrap_err();
    assert!(error.contains("something else than was asked"), "{error}");
}
