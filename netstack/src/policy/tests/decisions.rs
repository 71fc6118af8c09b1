use super::*;

const ONE_API: &str = r#"
    version = 1
    defaults = { egress = "deny", ingress = "deny" }
    dns = { resolvers = "pod", other = "deny" }
    [[rule]]
    id = "api"
    dir = "egress"
    action = "allow"
    proto = ["tcp"]
    ports = [443]
    name = ["api.example.com"]
"#;

#[test]
fn a_name_opens_its_own_address_and_port_alone() {
    let policy = pod(ONE_API);
    let api = names(&[&["api.example.com"]]);
    let decide = |text: &str, names: &Names| said(&policy.decide(&egress(text), names));
    assert_eq!(decide("tcp 203.0.113.9 443", &api), "allow pod api rule");
    assert_eq!(decide("tcp 203.0.113.9 80", &api), "deny pod default");
    assert_eq!(decide("udp 203.0.113.9 443", &api), "deny pod default");
    assert_eq!(decide("tcp 203.0.113.9 443", &Names::default()), "deny pod no-name");
    assert_eq!(decide("udp 10.96.0.10 53", &Names::default()), "allow system resolver");
    assert_eq!(decide("udp 9.9.9.9 53", &Names::default()), "deny pod other-resolver");
    assert_eq!(decide("tcp 10.0.0.1 443", &api), "deny pod api rebinding");
    assert_eq!(decide("tcp 169.254.169.254 443", &api), "deny system system:metadata");
    assert_eq!(decide("tcp ::ffff:203.0.113.9 443", &api), "deny system invalid:mapped");
}

#[test]
fn without_a_file_everything_is_open_but_what_is_closed() {
    let policy = Policy::new(&Layer::Unset, &Layer::Unset, place(), 1);
    let decide = |flow: &Flow| said(&policy.decide(flow, &Names::default()));
    assert_eq!(decide(&egress("tcp 203.0.113.9 443")), "allow system default");
    assert_eq!(decide(&egress("tcp 10.0.0.1 443")), "allow system default");
    assert_eq!(decide(&ingress("tcp 10.0.0.1 8080")), "allow system default");
    assert_eq!(decide(&egress("tcp 192.168.7.1 10250")), "deny system system:host");
    assert_eq!(decide(&egress("tcp fe80::1 80")), "deny system system:linklocal");
}

#[test]
fn a_broken_file_allows_nothing() {
    let policy = Policy::new(&Layer::Unset, &Layer::Broken, place(), 1);
    let verdict = policy.decide(&egress("tcp 203.0.113.9 443"), &Names::default());
    assert_eq!(said(&verdict), "deny pod broken-policy");
}

#[test]
fn a_pod_does_not_open_what_the_node_denies() {
    let node = r#"
        version = 1
        defaults = { egress = "allow", ingress = "allow" }
        [[rule]]
        id = "no-x"
        dir = "egress"
        action = "deny"
        name = ["*.example.com"]
    "#;
    let policy = both(node, ONE_API);
    let verdict = policy.decide(&egress("tcp 203.0.113.9 443"), &names(&[&["api.example.com"]]));
    assert_eq!(said(&verdict), "deny node no-x rule");
}
