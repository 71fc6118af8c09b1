#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;

use super::*;
use crate::policy::{Document, Flow, Known, Layer, Place, Policy, Verdict};

const FILE: &str = r#"
    version = 1
    [[rule]]
    id = "no"
    dir = "egress"
    action = "deny"
    cidr = ["198.51.100.0/24"]
    [[rule]]
    id = "loud"
    dir = "egress"
    action = "deny"
    log = true
    cidr = ["192.0.2.0/24"]
    [[rule]]
    id = "api"
    dir = "egress"
    action = "allow"
    name = ["api.example.com"]
"#;

fn decide(peer: &str, port: u16) -> Verdict {
    let layer = Layer::Read(Document::load(FILE).unwrap().document.into());
    let policy = Policy::new(&Layer::Unset, &layer, Place::default(), 3);
    let known = Known::plain("api.example.com".parse().unwrap());
    let names = Names { live: Arc::new([known]), has_expired: false };
    let (direction, protocol) = (Direction::Egress, Protocol::Tcp);
    policy.decide(&Flow { direction, protocol, peer: peer.parse().unwrap(), port }, &names)
}

fn denial(peer: &str, port: u16) -> Denial {
    match decide(peer, port) {
        Verdict::Deny(denial) => denial,
        Verdict::Allow(permit) => panic!("{permit:?}"),
    }
}

fn ends(peer: &str, port: u16) -> Ends {
    Ends {
        from: "10.0.0.2:40000".parse().unwrap(),
        to: (peer.parse::<std::net::IpAddr>().unwrap(), port).into(),
    }
}

/// Seconds after both clocks' start; the wall's is in 2026.
fn at(seconds: u64) -> Now {
    let wall = Duration::from_millis(1_767_323_045_678) + Duration::from_secs(seconds);
    Now { monotonic: Duration::from_secs(seconds), wall }
}

fn lines(audit: &mut Audit) -> Vec<Value> {
    let text = String::from_utf8(audit.take()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// R76
#[test]
fn an_allowed_flow_has_a_line_when_it_opens_and_one_when_it_ends() {
    let mut audit = Audit::new("web-1");
    let permit = decide("203.0.113.9", 443).permit().unwrap();
    audit.opened(at(0), 12, ends("203.0.113.9", 443), &permit);
    let text = String::from_utf8(audit.take()).unwrap();
    assert_eq!(
        text,
        "{\"ts\":\"2026-01-02T03:04:05.678Z\",\"pod\":\"web-1\",\"flow\":12,\"dir\":\"egress\",\
         \"proto\":\"tcp\",\"src\":\"10.0.0.2:40000\",\"dst\":\"203.0.113.9:443\",\
         \"names\":[\"api.example.com\"],\"rule\":\"api\",\"tier\":\"pod\",\"verdict\":\"allow\",\
         \"reason\":\"rule\",\"generation\":3}\n"
    );
    let traffic = Traffic { bytes_in: 5, bytes_out: 7 };
    audit.closed(at(1), 12, ends("203.0.113.9", 443), &permit, traffic, "fin");
    let line = &lines(&mut audit)[0];
    assert_eq!((line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(5), Some(7)));
    assert_eq!((line["close"].as_str(), line["flow"].as_u64()), (Some("fin"), Some(12)));
}

#[test]
fn the_same_refusal_is_summed() {
    let mut audit = Audit::new("p");
    let no = denial("198.51.100.1", 80);
    for _ in 0..50 {
        audit.denied(at(0), None, ends("198.51.100.1", 80), &no);
    }
    let first = lines(&mut audit);
    assert_eq!(first.len(), 1);
    assert_eq!(
        (first[0]["verdict"].as_str(), first[0]["rule"].as_str()),
        (Some("deny"), Some("no"))
    );
    assert!(first[0].get("count").is_none());
    audit.tick(at(9));
    assert!(lines(&mut audit).is_empty());
    audit.tick(at(10));
    let sum = lines(&mut audit);
    assert_eq!((sum.len(), sum[0]["count"].as_u64()), (1, Some(49)));
    assert_eq!(sum[0]["ts"], "2026-01-02T03:04:15.678Z");
    // Its time is over: the next one is a first again.
    audit.denied(at(11), None, ends("198.51.100.1", 80), &no);
    assert_eq!(lines(&mut audit).len(), 1);
    assert_eq!(audit.counters().denied, 51);
}

#[test]
fn other_refusals_are_told_apart() {
    let mut audit = Audit::new("p");
    for (peer, port) in [("198.51.100.1", 80), ("198.51.100.1", 81), ("198.51.100.2", 80)] {
        audit.denied(at(0), None, ends(peer, port), &denial(peer, port));
    }
    assert_eq!(lines(&mut audit).len(), 3);
}

#[test]
fn a_rule_that_logs_has_a_line_for_each() {
    let mut audit = Audit::new("p");
    let loud = denial("192.0.2.1", 80);
    for _ in 0..20 {
        audit.denied(at(0), None, ends("192.0.2.1", 80), &loud);
    }
    assert_eq!(lines(&mut audit).len(), 20);
}

#[test]
fn lines_have_a_rate_and_what_it_leaves_out_is_counted() {
    let mut audit = Audit::new("p");
    let permit = decide("203.0.113.9", 443).permit().unwrap();
    for flow in 0..1000 {
        audit.opened(at(0), flow, ends("203.0.113.9", 443), &permit);
    }
    assert_eq!(lines(&mut audit).len(), 100);
    audit.opened(at(1), 1000, ends("203.0.113.9", 443), &permit);
    assert_eq!(lines(&mut audit).len(), 1);
    audit.tick(at(10));
    let sum = lines(&mut audit);
    assert_eq!(
        (sum[0]["verdict"].as_str(), sum[0]["count"].as_u64()),
        (Some("limited"), Some(900))
    );
    assert_eq!(audit.counters().limited, 900);
    assert_eq!(audit.counters().allowed, 1001);
}

/// A scan: every address is another kind.
#[test]
fn a_scan_costs_a_bounded_amount_and_loses_no_count() {
    let mut audit = Audit::new("p");
    let no = denial("198.51.100.1", 80);
    for port in 1..=5000 {
        audit.denied(at(0), None, ends("198.51.100.1", port), &no);
    }
    let mut told = u64::try_from(lines(&mut audit).len()).unwrap();
    audit.tick(at(10));
    told += lines(&mut audit).iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(told, 5000);
}

#[test]
fn lines_that_nobody_takes_are_bounded() {
    let mut audit = Audit::new("p");
    let permit = decide("203.0.113.9", 443).permit().unwrap();
    for second in 0..100 {
        for flow in 0..100 {
            audit.opened(at(second), flow, ends("203.0.113.9", 443), &permit);
        }
    }
    let counters = audit.counters();
    assert!(audit.take().len() <= MAX_WAITING);
    assert!(counters.lost > 0);
    assert_eq!(counters.lines + counters.lost + counters.limited, 10_000);
}

#[test]
fn lines_that_the_sink_lost_have_a_line_with_their_number() {
    let mut audit = Audit::new("p");
    audit.lost(at(0), 0);
    assert!(lines(&mut audit).is_empty());
    let mut counts = |second, by_sink| {
        audit.lost(at(second), by_sink);
        let lines = lines(&mut audit);
        let shown = |line: &Value| (line["verdict"].clone(), line["count"].as_u64().unwrap());
        (lines.iter().map(shown).collect::<Vec<_>>(), audit.counters().lost)
    };
    assert_eq!(counts(1, 3), (vec![("lost".into(), 3)], 3));
    assert_eq!(counts(2, 5), (vec![], 5), "at most one within ten seconds");
    assert_eq!(counts(11, 5), (vec![("lost".into(), 5)], 5));
    assert_eq!(counts(30, 5), (vec![], 5), "none without another loss");
}

#[test]
fn a_query_that_was_blocked_has_its_name() {
    let mut audit = Audit::new("p");
    let ground = denial("198.51.100.1", 53).ground;
    let name: crate::policy::Name = "evil.example".parse().unwrap();
    let blocked = Blocked { answer: vec![], name, ground };
    audit.blocked(at(0), ends("10.96.0.10", 53), Protocol::Udp, &blocked);
    let line = &lines(&mut audit)[0];
    assert_eq!(line["verdict"], "block");
    assert_eq!(line["names"], serde_json::json!(["evil.example"]));
}

#[test]
fn dates() {
    let at = |seconds| time::text(Duration::from_secs(seconds));
    assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
    assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
    assert_eq!(at(1_709_251_200), "2024-03-01T00:00:00.000Z");
    assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000Z");
    assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
}
