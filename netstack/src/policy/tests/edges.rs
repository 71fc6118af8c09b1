//! The table of edge cases, a test for each row that the policy or the
//! observer answers. That a guest changes its address is the gate's test;
//! fragments, ICMP errors and other protocols are the packets' half's.

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::dns::{Channel, FromGuest, FromServer, Observer};

const ANY: &str = "version = 1\ndefaults = { egress = \"allow\", ingress = \"allow\" }\n";
const NONE: &str = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n";

fn with(head: &str, rules: &[(&str, &str, &str)]) -> String {
    let one = |(id, action, rest): &(&str, &str, &str)| {
        format!("[[rule]]\nid = \"{id}\"\ndir = \"egress\"\naction = \"{action}\"\n{rest}\n")
    };
    head.to_owned() + &rules.iter().map(one).collect::<String>()
}

fn https(policy: &Policy, known: &[&[&str]]) -> String {
    said(&policy.decide(&egress("tcp 203.0.113.9 443"), &names(known)))
}

/// allow `*.x` then deny `a.x`: the denial could never decide.
#[test]
fn a_denial_behind_what_allows_it_is_an_error() {
    let allow = ("all", "allow", "name = [\"*.x.example\"]");
    let deny = ("one", "deny", "name = [\"a.x.example\"]");
    let said = Document::load(&with(NONE, &[allow, deny])).unwrap_err().to_string();
    assert!(said.contains("shadowed rule: `all`") && said.contains("put it before"), "{said}");
    let policy = pod(&with(NONE, &[deny, allow]));
    assert_eq!(https(&policy, &[&["a.x.example"]]), "deny pod one rule");
    assert_eq!(https(&policy, &[&["b.x.example"]]), "allow pod all rule");
}

/// deny `*.x` in the node's file, allow `a.x` in the pod's.
#[test]
fn the_tier_comes_before_the_order() {
    let node = with(ANY, &[("no", "deny", "name = [\"*.x.example\"]")]);
    let own = with(NONE, &[("yes", "allow", "name = [\"a.x.example\"]")]);
    assert_eq!(https(&both(&node, &own), &[&["a.x.example"]]), "deny node no rule");
}

/// R70: an address with an allowed and an unlisted name.
#[test]
fn a_shared_address_is_open_while_an_allowed_name_lives() {
    let policy = pod(&with(NONE, &[("yes", "allow", "name = [\"a.example\"]")]));
    let verdict = policy
        .decide(&egress("tcp 203.0.113.9 443"), &names(&[&["other.example"], &["a.example"]]));
    assert_eq!(said(&verdict), "allow pod yes rule");
    let permit = verdict.permit().unwrap();
    assert_eq!(permit.names().live.len(), 2, "the audit has all names");
    assert_eq!(https(&policy, &[&["other.example"]]), "deny pod default");
}

/// An address with an allowed and a denied name, both learnt before a reload.
#[test]
fn a_denied_name_weighs_more_than_an_allowed_one() {
    let rules =
        [("yes", "allow", "name = [\"a.example\"]"), ("no", "deny", "name = [\"b.example\"]")];
    let policy = pod(&with(NONE, &rules));
    assert_eq!(https(&policy, &[&["a.example"]]), "allow pod yes rule");
    for known in [[&["a.example"][..], &["b.example"]], [&["b.example"], &["a.example"]]] {
        assert_eq!(https(&policy, &known), "deny pod no rule");
    }
}

/// A denial without names comes before that of a name: the address is no more
/// open by its other name than it was.
#[test]
fn a_denied_name_weighs_as_much_behind_a_denial_without_names() {
    let yes = ("yes", "allow", "name = [\"a.example\"]");
    let more = ("more", "deny", "ports = [443]");
    let no = ("no", "deny", "name = [\"b.example\"]");
    let known = [&["a.example"][..], &["b.example"]];
    for rules in [&[yes, no][..], &[yes, more, no]] {
        assert!(https(&pod(&with(NONE, rules)), &known).starts_with("deny"), "{rules:?}");
    }
    let node = with(ANY, &[("pass", "pass", "name = [\"a.example\"]"), more]);
    for node in [ANY, &node] {
        let own = with(ANY, &[no]);
        assert!(https(&both(node, &own), &known).starts_with("deny"), "{node}");
    }
}

/// A CNAME to a denied name; and one of evil to an allowed name.
#[test]
fn aliases_deny_and_do_not_allow() {
    let rules = [
        ("no", "deny", "name = [\"bad.example\"]"),
        ("yes", "allow", "name = [\"*.good.example\"]"),
    ];
    let policy = pod(&with(NONE, &rules));
    assert_eq!(https(&policy, &[&["a.good.example", "bad.example"]]), "deny pod no rule");
    assert_eq!(https(&policy, &[&["a.good.example", "x.cdn.example"]]), "allow pod yes rule");
    assert_eq!(https(&policy, &[&["evil.example", "a.good.example"]]), "deny pod default");
}

/// An address literal where only names are allowed.
#[test]
fn a_literal_has_no_name() {
    let policy = pod(&with(NONE, &[("yes", "allow", "name = [\"a.example\"]")]));
    assert_eq!(https(&policy, &[]), "deny pod no-name");
}

/// All is allowed but names: a literal goes around it, and the file's reader
/// is told.
#[test]
fn a_literal_goes_around_denied_names() {
    let text = with(ANY, &[("no", "deny", "name = [\"a.example\"]")]);
    let loaded = Document::load(&text).unwrap();
    assert!(loaded.warnings[0].to_string().contains("advisory"));
    let policy = pod(&text);
    assert_eq!(https(&policy, &[&["a.example"]]), "deny pod no rule");
    assert_eq!(https(&policy, &[]), "allow pod default");
}

/// DNS over TLS and HTTPS: ordinary flows that teach nothing.
#[test]
fn other_ways_to_ask_teach_nothing() {
    let rules = [
        ("yes", "allow", "name = [\"a.example\"]"),
        ("doh", "allow", "cidr = [\"198.51.100.1/32\"]\nports = [443, 853]"),
    ];
    let policy = pod(&with(NONE, &rules));
    let none = Names::default();
    for port in [443, 853] {
        let flow = egress(&format!("tcp 198.51.100.1 {port}"));
        assert_eq!(said(&policy.decide(&flow, &none)), "allow pod doh rule");
    }
    assert!(!policy.is_pinned(ip("198.51.100.1")), "its answers are not looked at");
    assert_eq!(https(&policy, &[]), "deny pod no-name");
    // An unlisted one is not reached.
    let other = policy.decide(&egress("tcp 198.51.100.2 443"), &none);
    assert_eq!(said(&other), "deny pod no-name");
}

/// IPv4 in the clothes of IPv6 is nothing on the wire, and nothing gained by
/// NAT64, 6to4 or Teredo.
#[test]
fn every_form_of_an_address_is_looked_at() {
    let policy = pod(&with(ANY, &[("no", "deny", "cidr = [\"198.51.100.0/24\"]")]));
    let decide =
        |peer: &str| said(&policy.decide(&egress(&format!("tcp {peer} 443")), &Names::default()));
    assert_eq!(decide("::ffff:203.0.113.9"), "deny system invalid:mapped");
    assert_eq!(decide("64:ff9b::203.0.113.9"), "allow pod default");
    assert_eq!(decide("64:ff9b::198.51.100.9"), "deny pod no rule");
    assert_eq!(decide("64:ff9b:1::198.51.100.9"), "deny pod no rule");
    assert_eq!(decide("2002:c633:6409::1"), "deny pod no rule");
    assert_eq!(decide("2001:0:c633:6409::34ff:8ef6"), "deny pod no rule");
    assert_eq!(decide("2001:0:cb00:7109:0:0:39cc:9bf6"), "deny pod no rule");
    assert_eq!(decide("::198.51.100.9"), "deny pod no rule");
    assert_eq!(decide("64:ff9b::169.254.169.254"), "deny system system:metadata");
    assert_eq!(decide("64:ff9b::127.0.0.1"), "deny system invalid:loopback");
    assert_eq!(decide("64:ff9b::192.168.7.1"), "deny system system:host");
    assert_eq!(decide("2002:7f00:1::"), "deny system invalid:loopback");
}

/// R71: the verdict of a flow stays when its name's time has passed; a new
/// flow is denied, and says why.
#[test]
fn time_passes_for_new_flows() {
    let policy = pod(&with(NONE, &[("yes", "allow", "name = [\"a.example\"]")]));
    let expired = Names { has_expired: true, ..Names::default() };
    let verdict = policy.decide(&egress("tcp 203.0.113.9 443"), &expired);
    assert_eq!(said(&verdict), "deny pod expired");
    let open = Policy::new(&Layer::Unset, &Layer::Unset, place(), 2);
    let permit =
        policy.decide(&egress("tcp 203.0.113.9 443"), &names(&[&["a.example"]])).permit().unwrap();
    // Decided anew by the names that it was allowed by.
    assert!(open.recheck(&permit).is_allow());
    assert_eq!(said(&policy.decide(permit.flow(), permit.names())), "allow pod yes rule");
}

/// QUIC moves to another peer: another decision.
#[test]
fn another_peer_is_another_decision() {
    let policy = pod(&with(NONE, &[("yes", "allow", "name = [\"a.example\"]\nproto = [\"udp\"]")]));
    let known = names(&[&["a.example"]]);
    let quic = |peer: &str, names: &Names| {
        said(&policy.decide(&egress(&format!("udp {peer} 443")), names))
    };
    assert_eq!(quic("203.0.113.9", &known), "allow pod yes rule");
    assert_eq!(quic("203.0.113.10", &Names::default()), "deny pod no-name");
}

/// R75, R77: new flows are decided by a new policy, open ones when asked; a
/// file that cannot be read closes.
#[test]
fn policies_are_replaced() {
    let old = with(NONE, &[("yes", "allow", "name = [\"a.example\"]")]);
    let new = with(NONE, &[("other", "allow", "name = [\"b.example\"]")]);
    let policy = |pod: &Layer, generation| Policy::new(&Layer::Unset, pod, place(), generation);
    let flow = egress("tcp 203.0.113.9 443");
    let known = names(&[&["a.example"]]);
    let permit = policy(&layer(&old), 1).decide(&flow, &known).permit().unwrap();
    assert_eq!(permit.ground().generation, 1);
    let other = policy(&layer(&new), 2);
    assert_eq!(said(&other.decide(&flow, &known)), "deny pod default");
    assert_eq!(said(&other.recheck(&permit)), "deny pod default");
    let broken = policy(&Layer::Broken, 3);
    assert_eq!(said(&broken.decide(&flow, &known)), "deny pod broken-policy");
    assert_eq!(said(&policy(&layer(&old), 4).recheck(&permit)), "allow pod yes rule");
}

/// A pinned resolver is open by itself only where rules have names.
#[test]
fn resolvers_are_open_where_names_count() {
    let decide = |text: &str, flow: &str| said(&pod(text).decide(&egress(flow), &Names::default()));
    let named = with(NONE, &[("yes", "allow", "name = [\"a.example\"]")]);
    assert_eq!(decide(&named, "udp 10.96.0.10 53"), "allow system resolver");
    assert_eq!(decide(&named, "tcp 10.96.0.10 53"), "allow system resolver");
    assert_eq!(decide(&named, "icmp 10.96.0.10"), "deny pod no-name");
    assert_eq!(decide(&named, "udp 10.96.0.10 5353"), "deny pod no-name");
    assert_eq!(decide(NONE, "udp 10.96.0.10 53"), "deny pod default");
    let explicit = with(NONE, &[("dns", "allow", "cidr = [\"10.96.0.10/32\"]\nports = [53]")]);
    assert_eq!(decide(&explicit, "udp 10.96.0.10 53"), "allow pod dns rule");
    let closed = with(
        NONE,
        &[("no", "deny", "cidr = [\"10.96.0.10/32\"]"), ("yes", "allow", "name = [\"a.example\"]")],
    );
    assert_eq!(decide(&closed, "udp 10.96.0.10 53"), "deny pod no rule");
    // DNS elsewhere is denied even where a rule would allow it.
    let open =
        with(NONE, &[("all", "allow", "ports = [53]"), ("yes", "allow", "name = [\"a.example\"]")]);
    assert_eq!(decide(&open, "udp 198.51.100.1 53"), "deny pod other-resolver");
    let rules = open
        .replace("[[rule]]\nid = \"all\"", "dns = { other = \"rules\" }\n[[rule]]\nid = \"all\"");
    assert_eq!(decide(&rules, "udp 198.51.100.1 53"), "allow pod all rule");
}

/// A policy may pin other servers than the pod was given; the node's word is
/// before the pod's.
#[test]
fn pinned_resolvers() {
    let pins = |list: &str| format!("{NONE}dns = {{ resolvers = {list} }}\n");
    let one = pod(&pins("[\"198.51.100.53\"]"));
    assert!(one.is_pinned(ip("198.51.100.53")) && !one.is_pinned(ip("10.96.0.10")));
    let two = both(&pins("[\"198.51.100.54\"]"), &pins("[\"198.51.100.53\"]"));
    assert!(two.is_pinned(ip("198.51.100.54")) && !two.is_pinned(ip("198.51.100.53")));
    assert!(pod(&pins("\"pod\"")).is_pinned(ip("::ffff:10.96.0.10")));
}

/// The own address and services are ordinary: loops are the packets' half's.
#[test]
fn a_service_that_leads_back_is_an_ordinary_flow() {
    let policy = pod(&with(NONE, &[("svc", "allow", "cidr = [\"10.96.0.0/12\"]\nports = [80]")]));
    let verdict = policy.decide(&egress("tcp 10.96.3.4 80"), &Names::default());
    assert_eq!(said(&verdict), "allow pod svc rule");
}

/// An answer with a NAT64 address, as DNS64 makes them: both forms count.
#[test]
fn nat64_answers_are_classified_by_what_they_carry() {
    let policy = pod(&with(NONE, &[("yes", "allow", "name = [\"a.example\"]")]));
    let known = names(&[&["a.example"]]);
    let decide = |peer: &str| said(&policy.decide(&egress(&format!("tcp {peer} 443")), &known));
    assert_eq!(decide("64:ff9b::203.0.113.9"), "allow pod yes rule");
    assert_eq!(decide("64:ff9b::10.0.0.1"), "deny pod yes rebinding");
}

/// DNS over UDP and TCP pass the same observer, a truncated answer teaches
/// nothing, a full table opens nothing, and a server that is not pinned is
/// not asked: `dns/tests` has these at length. Here the way from the query to
/// the verdict.
#[test]
fn from_the_query_to_the_verdict() {
    let policy = pod(&with(NONE, &[("yes", "allow", "name = [\"a.example\"]")]));
    let server: SocketAddr = "10.96.0.10:53".parse().unwrap();
    let now = Duration::from_secs(5);
    let mut observer = Observer::new();
    let question = b"\x01a\x07example\x00\x00\x01\x00\x01";
    let query = [&b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"[..], question].concat();
    let record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xcb\x00\x71\x09";
    let head = b"\x00\x07\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00";
    let answer = [&head[..], question, record].concat();
    let asked = observer.from_guest(&policy, Channel(1), server, &query, now);
    assert_eq!(asked, FromGuest::Forward);
    let told = observer.from_server(&policy, Channel(1), server, &answer, now);
    assert_eq!(told, FromServer::Deliver);
    let known = observer.names(ip("203.0.113.9"), now);
    let verdict = policy.decide(&egress("tcp 203.0.113.9 443"), &known);
    assert_eq!(said(&verdict), "allow pod yes rule");
}
