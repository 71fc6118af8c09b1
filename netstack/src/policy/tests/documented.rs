//! The examples of `docs/policy.md` are read out of it, and do what it says.
use super::*;

fn examples() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.md");
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```toml\n").skip(1);
    blocks.map(|block| block.split_once("```").unwrap().0.to_owned()).collect()
}

fn example(number: usize) -> Policy {
    let loaded = Document::load(&examples()[number]).unwrap();
    Policy::new(&Layer::Unset, &Layer::Read(loaded.document.into()), place(), 1)
}

fn decide(policy: &Policy, flow: &Flow, known: &[&[&str]]) -> String {
    said(&policy.decide(flow, &names(known)))
}

#[test]
fn all_can_be_read_without_a_warning() {
    assert_eq!(examples().len(), 4);
    for text in examples() {
        assert_eq!(Document::load(&text).unwrap().warnings, []);
    }
}

#[test]
fn nothing_but_one_api() {
    let policy = example(0);
    let api: &[&[&str]] = &[&["api.example.com"]];
    assert_eq!(decide(&policy, &egress("tcp 203.0.113.9 443"), api), "allow pod api rule");
    assert_eq!(decide(&policy, &egress("tcp 203.0.113.9 80"), api), "deny pod default");
    assert_eq!(decide(&policy, &egress("tcp 203.0.113.9 443"), &[]), "deny pod no-name");
    assert_eq!(decide(&policy, &egress("udp 10.96.0.10 53"), &[]), "allow system resolver");
    assert_eq!(decide(&policy, &egress("udp 9.9.9.9 53"), &[]), "deny pod other-resolver");
    assert_eq!(decide(&policy, &egress("icmp 203.0.113.9"), &[]), "deny pod no-name");
    assert_eq!(decide(&policy, &ingress("tcp 203.0.113.9 80"), &[]), "deny pod default");
}

#[test]
fn as_a_network_policy() {
    let policy = example(1);
    let out = |flow: &str| decide(&policy, &egress(flow), &[]);
    assert_eq!(out("udp 10.96.0.10 53"), "allow pod dns rule");
    assert_eq!(out("udp 10.96.0.11 53"), "deny pod default");
    assert_eq!(out("tcp 10.0.0.4 5432"), "allow pod db rule");
    assert_eq!(out("tcp 10.0.0.5 5432"), "deny pod default");
    assert_eq!(out("udp 10.0.0.4 5432"), "deny pod default");
    let into = |flow: &str| decide(&policy, &ingress(flow), &[]);
    assert_eq!(into("tcp 172.17.0.1 8080"), "allow pod web-in rule");
    assert_eq!(into("tcp 172.17.1.1 8080"), "deny pod default");
}

#[test]
fn everything_but_what_is_inside() {
    let policy = example(2);
    let out = |flow: &str| decide(&policy, &egress(flow), &[]);
    assert_eq!(out("tcp 203.0.113.9 443"), "allow pod default");
    for peer in ["10.0.0.1", "192.168.0.1", "100.64.0.1", "fd00::1", "64:ff9b::10.0.0.1"] {
        assert_eq!(out(&format!("tcp {peer} 443")), "deny pod no-private rule", "{peer}");
    }
    assert_eq!(out("tcp 169.254.169.254 80"), "deny system system:metadata");
    assert_eq!(decide(&policy, &ingress("tcp 203.0.113.9 80"), &[]), "deny pod default");
}

#[test]
fn a_node_that_opens_the_metadata_service() {
    let loaded = Document::load(&examples()[3]).unwrap();
    let node = Layer::Read(loaded.document.into());
    let policy = Policy::new(&node, &Layer::Unset, place(), 1);
    let out = |flow: &str| decide(&policy, &egress(flow), &[]);
    assert_eq!(out("tcp 169.254.169.254 80"), "allow node metadata rule");
    assert_eq!(out("tcp 169.254.169.254 443"), "deny system system:metadata");
    assert_eq!(out("tcp 203.0.113.9 443"), "allow node default");
}

/// The message of the document is the message of the loader.
#[test]
fn the_error_that_is_shown() {
    let text = "version = 1\n\n[[rule]]\nid = \"r\"\ndir = \"egress\"\naction = \"allow\"\n\
                cidr = [\"10.0.0.1/8\"]\n";
    let said = Document::load(text).unwrap_err().to_string();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.md");
    assert!(std::fs::read_to_string(path).unwrap().contains(&format!("    {said}\n")), "{said}");
}
