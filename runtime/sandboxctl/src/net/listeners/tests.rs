#![allow(clippy::unwrap_used)]

use super::*;
use crate::tests::fake::Fake;

#[test]
fn listeners_are_a_table_or_json() {
    let row = |proto: &str, guest: &str, at: Option<&str>, error: Option<&str>| ListenerRow {
        proto: proto.into(),
        guest: guest.parse().unwrap(),
        at: at.map(|at| at.parse().unwrap()),
        error: error.map(str::to_owned),
    };
    let listeners = vec![
        row("tcp", "0.0.0.0:80", Some("10.0.0.2:80"), None),
        row("udp", "[::]:53", Some("[fd00::2]:53"), Some("in use\u{1b}[2J")),
        row("udp", "127.0.0.1:53", None, Some("not passed on")),
    ];
    let mut fake = Fake::new(vec![Reply::Listeners { listeners: listeners.clone() }]);
    let shown = text(&mut fake.client, false).unwrap();
    assert_eq!(fake.asked(), [Request::Listening]);
    assert_eq!(
        shown,
        "PROTO  GUEST         HOST          STATE\n\
         tcp    0.0.0.0:80    10.0.0.2:80   bound\n\
         udp    [::]:53       [fd00::2]:53  not bound: in use\\u{1b}[2J\n\
         udp    127.0.0.1:53  -             not bound: not passed on\n"
    );
    let mut fake = Fake::new(vec![Reply::Listeners { listeners: listeners.clone() }]);
    let shown = text(&mut fake.client, true).unwrap();
    assert_eq!(serde_json::from_str::<Vec<ListenerRow>>(&shown).unwrap(), listeners);
    let mut fake = Fake::new(vec![Reply::Failed { error: "not yet".into() }]);
    assert_eq!(text(&mut fake.client, true).unwrap_err().to_string(), "not yet");
}
