#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::Parser;
use sandbox_netstack::policy::Answer;

use super::*;
use crate::policy::Command;
use crate::policy::tests::{API, Files, Line};
use crate::tests::fake::Fake;

/// The question of a command line; names of files begin with `@`.
fn question(files: &Files, line: &str) -> Explain {
    let word = |word: &str| match word.strip_prefix('@') {
        Some(name) => files.path(name).into_os_string(),
        None => word.into(),
    };
    let words = ["sandboxctl", "explain"].into_iter().chain(line.split(' ')).map(word);
    match Line::try_parse_from(words).unwrap().command {
        Command::Explain(question) => question,
        _ => panic!("not explain"),
    }
}

fn explain(files: &Files, line: &str) -> Explanation {
    let question = question(files, line);
    by_file(&question, question.file().unwrap()).unwrap()
}

#[test]
fn a_destination_is_explained() {
    let files = Files::new(&[("a.toml", API)]);
    let told = explain(&files, "@a.toml api.example.com:443");
    assert_eq!((told.answer, told.rule.as_deref()), (Answer::Allowed, Some("api")));
    let told = explain(&files, "@a.toml api.example.com:443 --at 10.0.0.1");
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Denied, "rebinding"));
    let told = explain(&files, "@a.toml 10.96.0.10:53 --proto udp --resolver 10.96.0.10");
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Allowed, "resolver"));
    let told = explain(&files, "@a.toml [2001:db8::1]:443 --host 2001:db8::1");
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Denied, "system:host"));
}

#[test]
fn the_nodes_file_comes_first() {
    let node = "version = 1\ndefaults = { egress = \"allow\" }\n[[rule]]\nid = \"no\"\n\
                dir = \"egress\"\naction = \"deny\"\nname = [\"*.example.com\"]\n";
    let files = Files::new(&[("a.toml", API), ("node.toml", node)]);
    let told = explain(&files, "@a.toml api.example.com:443 --node @node.toml");
    assert_eq!((told.answer, told.rule.as_deref()), (Answer::Denied, Some("no")));
}

#[test]
fn a_file_is_told_from_a_pod_by_how_it_is_written() {
    let files = Files::new(&[]);
    let file = |line: &str| {
        question(&files, line).file().map(|path| path.display().to_string()).unwrap_or_default()
    };
    assert_eq!(file("--policy web api.example.com:443"), "web");
    assert_eq!(file("web.toml api.example.com:443"), "web.toml");
    assert_eq!(file("./web api.example.com:443"), "./web");
    assert_eq!(file("/etc/web api.example.com:443"), "/etc/web");
    assert_eq!(file("web api.example.com:443"), "");
    assert_eq!(file("k8s.io/web api.example.com:443"), "");
}

#[test]
fn what_a_pod_knows_itself_is_not_said_to_it() {
    let files = Files::new(&[]);
    let check = |line: &str| question(&files, line).check("web");
    assert_eq!(check("web api.example.com:443 --at 192.0.2.1"), Ok(()));
    assert_eq!(check("web 192.0.2.1:443 --at 192.0.2.2"), Err(Unclear::At));
    for flag in ["--node a.toml", "--host 192.0.2.1", "--resolver 192.0.2.1"] {
        let refused = check(&format!("web api.example.com:443 {flag}")).unwrap_err();
        assert!(refused.to_string().contains("sandbox web has"), "{refused}");
    }
}

fn row(address: Option<&str>, names: &[&str], text: &str) -> OutlookRow {
    OutlookRow {
        address: address.map(|ip| ip.parse().unwrap()),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        answer: "allowed".to_owned(),
        tier: "pod".to_owned(),
        rule: Some("api".to_owned()),
        reason: "rule".to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn a_pod_is_asked_and_its_answer_is_shown() {
    let files = Files::new(&[]);
    let asked = question(&files, "web [2001:db8::1]:443 --proto udp");
    let outlook = vec![
        row(Some("2001:db8::1"), &["a.example", "b.example"], "It is allowed."),
        row(None, &[], "It \u{1b}[2Jdepends."),
    ];
    let reply = || Reply::Explained { generation: 3, outlook: outlook.clone() };
    let mut fake = Fake::new(vec![reply()]);
    assert_eq!(
        by_pod(&asked, &mut fake.client).unwrap(),
        "It is allowed. The pod knows 2001:db8::1 as a.example, b.example.\n\
         It \\u{1b}[2Jdepends. The pod has not resolved the name yet.\n"
    );
    let (protocol, destination) = ("udp".to_owned(), "[2001:db8::1]:443".to_owned());
    assert_eq!(fake.asked(), [Request::Explain { protocol, destination, at: None }]);

    let asked = question(&files, "web api.example.com:443 --json");
    let mut fake = Fake::new(vec![reply()]);
    let told = by_pod(&asked, &mut fake.client).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["generation"], &told["outlook"][0]["rule"]), (&3.into(), &"api".into()));
    let mut fake = Fake::new(vec![Reply::Done]);
    assert!(by_pod(&asked, &mut fake.client).unwrap_err().to_string().contains("something else"));
}
