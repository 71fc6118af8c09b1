use std::time::Instant;

use super::*;

fn rules(count: usize, each: impl Fn(usize) -> String) -> String {
    let one =
        |n| format!("[[rule]]\nid = \"r{n}\"\ndir = \"egress\"\naction = \"allow\"\n{}\n", each(n));
    let all: String = (0..count).map(one).collect();
    format!("version = 1\ndefaults = {{ egress = \"deny\", ingress = \"deny\" }}\n{all}")
}

/// A network of its own for each rule.
fn networks(count: usize) -> String {
    rules(count, |n| format!("cidr = [\"20.{}.{}.0/24\"]\nports = [443]", n / 256, n % 256))
}

/// R66: ten thousand rules load, and a decision does not grow with them. The
/// bound is wide: comparing each rule would take it past that by far.
#[test]
fn ten_thousand_rules_cost_what_ten_do() {
    let time = |count: usize| {
        let loaded = Document::load(&networks(count)).unwrap();
        let policy = Policy::new(&Layer::Unset, &Layer::Read(loaded.document.into()), place(), 1);
        let flow = |n: usize| egress(&format!("tcp 20.{}.{}.7 443", n / 256, n % 256));
        let flows: Vec<_> = (0..1000).map(|n| flow(count * n / 1000)).collect();
        let started = Instant::now();
        for flow in &flows {
            assert!(policy.decide(flow, &Names::default()).is_allow());
        }
        started.elapsed()
    };
    let few = (0..3).map(|_| time(10)).min().unwrap();
    let many = (0..3).map(|_| time(10_000)).min().unwrap();
    assert!(many < few * 20, "{few:?} with 10 rules, {many:?} with 10,000");
}

#[test]
fn ten_thousand_names_cost_what_one_does() {
    let text = rules(10_000, |n| format!("name = [\"n{n}.example.com\", \"*.n{n}.example.net\"]"));
    let loaded = Document::load(&text).unwrap();
    let policy = Policy::new(&Layer::Unset, &Layer::Read(loaded.document.into()), place(), 1);
    let verdict =
        policy.decide(&egress("tcp 203.0.113.9 443"), &names(&[&["a.n7777.example.net"]]));
    assert_eq!(said(&verdict), "allow pod r7777 rule");
    let asked = |text: &str| policy.may_ask(&Known::plain(name(text))).is_ok();
    assert!(asked("n9999.example.com") && !asked("n10000.example.com"));
}

#[test]
fn more_rules_than_the_bound_are_refused() {
    let said = Document::load(&networks(MAX_RULES + 1)).unwrap_err().to_string();
    assert!(said.contains("20001 rules; at most 20000 are taken"), "{said}");
}

/// Lists that would take minutes to compare with each other.
#[test]
fn comparing_rules_ends() {
    let list: Vec<_> = (0..4000).map(|n| format!("\"{}-{}\"", n * 2 + 1, n * 2 + 2)).collect();
    let list = list.join(",");
    let text =
        rules(45, |n| format!("cidr = [\"20.0.{n}.0/24\", \"21.0.0.0/24\"]\nports = [{list}]"));
    let text = text.replace("cidr = [\"20.0.", "cidr = [\"21.0.0.0/24\", \"20.0.");
    let started = Instant::now();
    let loaded = Document::load(&text).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.to_string().contains("not all rules were compared")));
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
