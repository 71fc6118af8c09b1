#![allow(clippy::unwrap_used)]

use super::*;
use crate::tests::fake::Fake;

#[test]
fn names_are_a_table_or_json() {
    let names = vec![
        NameRow {
            address: "203.0.113.9".parse().unwrap(),
            name: "api.example.com".into(),
            aliases: vec!["a.cdn.example".into(), "b.cdn.example".into()],
            seconds: 90,
        },
        NameRow {
            address: "2001:db8::1".parse().unwrap(),
            name: "x\u{1b}[2J".into(),
            aliases: Vec::new(),
            seconds: 5,
        },
    ];
    let mut fake = Fake::new(vec![Reply::Names { names: names.clone() }]);
    let shown = text(&mut fake.client, false).unwrap();
    assert_eq!(fake.asked(), [Request::Names]);
    assert_eq!(
        shown,
        "NAME             ADDRESS      FORGOTTEN IN  ALIASES\n\
         api.example.com  203.0.113.9  1m30s         a.cdn.example b.cdn.example\n\
         x\\u{1b}[2J       2001:db8::1  5s\n"
    );
    let mut fake = Fake::new(vec![Reply::Names { names: names.clone() }]);
    let shown = text(&mut fake.client, true).unwrap();
    assert_eq!(serde_json::from_str::<Vec<NameRow>>(&shown).unwrap(), names);
    let mut fake = Fake::new(vec![Reply::Failed { error: "not yet".into() }]);
    assert_eq!(text(&mut fake.client, true).unwrap_err().to_string(), "not yet");
}
