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

#[test]
fn what_the_node_closes_no_pod_opens() {
    let any = "version = 1\ndefaults = { egress = \"allow\", ingress = \"allow\" }\n";
    let all = |id: &str, action: &str| {
        format!("{any}[[rule]]\nid = \"{id}\"\ndir = \"egress\"\naction = \"{action}\"\n")
    };
    let closed = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n";
    let flow = egress("tcp 203.0.113.9 443");
    let decide = |policy: Policy| said(&policy.decide(&flow, &Names::default()));
    assert_eq!(decide(both(closed, &all("pod", "allow"))), "deny node default");
    assert_eq!(decide(both(any, &all("pod", "allow"))), "allow pod pod rule");
    assert_eq!(decide(both(any, closed)), "deny pod default");
    // What it hands over is the pod's to decide.
    let passes = all("node", "pass").replace("egress = \"allow\"", "egress = \"deny\"");
    assert_eq!(decide(both(&passes, &all("pod", "allow"))), "allow pod pod rule");
    assert_eq!(decide(both(&passes, closed)), "deny pod default");
    // What it allows is decided.
    assert_eq!(decide(both(&all("node", "allow"), closed)), "allow node node rule");
    // Alone.
    let node = |text: &str| Policy::new(&layer(text), &Layer::Unset, place(), 1);
    assert_eq!(decide(node(closed)), "deny node default");
    assert_eq!(decide(node(any)), "allow node default");
    assert_eq!(decide(node(&passes)), "deny system default");
    let broken = Policy::new(&Layer::Broken, &layer(&all("pod", "allow")), place(), 1);
    assert_eq!(decide(broken), "deny node broken-policy");
}

/// R52: what is closed is opened by the node's file, if it says so in so many
/// words, and by nothing else.
#[test]
fn what_is_closed_is_opened_by_name() {
    let file = |rest: &str| {
        format!(
            "version = 1\ndefaults = {{ egress = \"allow\", ingress = \"allow\" }}\n\
             [[rule]]\nid = \"r\"\ndir = \"egress\"\naction = \"allow\"\n{rest}\n"
        )
    };
    let decide =
        |policy: &Policy, flow: &str| said(&policy.decide(&egress(flow), &Names::default()));
    let metadata = "tcp 169.254.169.254 80";
    for rest in
        ["", "cidr = [\"0.0.0.0/0\"]", "cidr = [\"169.254.0.0/16\"]", "class = [\"linklocal\"]"]
    {
        let policy = Policy::new(&layer(&file(rest)), &Layer::Unset, place(), 1);
        assert_eq!(decide(&policy, metadata), "deny system system:metadata", "{rest}");
    }
    let both_classes = "class = [\"metadata\", \"linklocal\"]";
    for rest in [both_classes, "cidr = [\"169.254.169.254/32\"]"] {
        let policy = Policy::new(&layer(&file(rest)), &Layer::Unset, place(), 1);
        assert_eq!(decide(&policy, metadata), "allow node r rule", "{rest}");
        // The same in the pod's file opens nothing.
        assert_eq!(decide(&pod(&file(rest)), metadata), "deny system system:metadata");
    }
    let host = Policy::new(&layer(&file("class = [\"host\"]")), &Layer::Unset, place(), 1);
    assert_eq!(decide(&host, "tcp 192.168.7.1 10250"), "allow node r rule");
    // Loopback and the like are opened by nothing.
    let all = Policy::new(&layer(&file("class = [\"localhost\"]")), &Layer::Unset, place(), 1);
    let invalid = [
        ("tcp 127.0.0.1 80", "loopback"),
        ("tcp ::1 80", "loopback"),
        ("tcp 0.0.0.0 80", "unspecified"),
        ("tcp 0.1.2.3 80", "unspecified"),
        ("tcp :: 80", "unspecified"),
        ("udp 224.0.0.251 5353", "multicast"),
        ("udp ff02::fb 5353", "multicast"),
        ("tcp 240.0.0.1 80", "reserved"),
        ("udp 255.255.255.255 67", "reserved"),
        ("tcp ::ffff:127.0.0.1 80", "mapped"),
    ];
    for (flow, kind) in invalid {
        assert_eq!(decide(&all, flow), format!("deny system invalid:{kind}"), "{flow}");
    }
}

#[test]
fn a_given_resolver_may_be_on_the_node() {
    let mut place = place();
    place.resolvers = vec![ip("169.254.20.10"), ip("192.168.7.1")];
    let policy = Policy::new(&Layer::Unset, &Layer::Unset, place, 1);
    let decide = |flow: &str| said(&policy.decide(&egress(flow), &Names::default()));
    assert_eq!(decide("udp 169.254.20.10 53"), "allow system default");
    assert_eq!(decide("tcp 192.168.7.1 53"), "allow system default");
    assert_eq!(decide("tcp 192.168.7.1 80"), "deny system system:host");
    assert_eq!(decide("udp 169.254.20.11 53"), "deny system system:linklocal");
}

#[test]
fn ways_in() {
    let text = r#"
        version = 1
        defaults = { egress = "deny", ingress = "deny", deny_mode = "drop" }
        [[rule]]
        id = "web"
        dir = "ingress"
        action = "allow"
        proto = ["tcp"]
        ports = [8080]
        cidr = ["172.17.0.0/16"]
        except = ["172.17.1.0/24"]
        [[rule]]
        id = "forward"
        dir = "ingress"
        action = "allow"
        class = ["localhost"]
    "#;
    let policy = pod(text);
    let decide = |flow: &str| said(&policy.decide(&ingress(flow), &Names::default()));
    assert_eq!(decide("tcp 172.17.0.5 8080"), "allow pod web rule");
    assert_eq!(decide("tcp 172.17.0.5 8081"), "deny pod default");
    assert_eq!(decide("tcp 172.17.1.5 8080"), "deny pod default");
    assert_eq!(decide("tcp 127.0.0.1 5432"), "allow pod forward rule");
    assert_eq!(decide("tcp ::1 5432"), "allow pod forward rule");
    // The kubelet's probes.
    assert_eq!(decide("tcp 192.168.7.1 9090"), "allow system probe");
    assert_eq!(decide("tcp 0.0.0.0 9090"), "deny system invalid:unspecified");
    let verdict = policy.decide(&ingress("tcp 198.51.100.1 8080"), &Names::default());
    let Verdict::Deny(denial) = verdict else { panic!("{verdict:?}") };
    assert_eq!(denial.mode, DenyMode::Drop);
}

#[test]
fn echoes() {
    let file = |echo: &str| {
        format!(
            "version = 1\ndefaults = {{ egress = \"deny\", ingress = \"deny\", icmp_echo = \"{echo}\" }}\n\
             [[rule]]\nid = \"r\"\ndir = \"egress\"\naction = \"allow\"\nproto = [\"icmp\"]\n\
             cidr = [\"198.51.100.0/24\"]\n\
             [[rule]]\nid = \"p\"\ndir = \"egress\"\naction = \"allow\"\nports = [80]\n"
        )
    };
    let decide =
        |echo: &str, flow: &str| said(&pod(&file(echo)).decide(&egress(flow), &Names::default()));
    assert_eq!(decide("rules", "icmp 198.51.100.1"), "allow pod r rule");
    assert_eq!(decide("deny", "icmp 198.51.100.1"), "allow pod r rule");
    assert_eq!(decide("rules", "icmp 203.0.113.1"), "deny pod default");
    assert_eq!(decide("allow", "icmp 203.0.113.1"), "allow pod default");
    assert_eq!(decide("allow", "tcp 203.0.113.1 81"), "deny pod default");
}

/// R66: what logs goes on like any other rule, and decides.
#[test]
fn logging_is_no_action() {
    let text = |action: &str| {
        format!(
            "version = 1\ndefaults = {{ egress = \"allow\", ingress = \"allow\" }}\n\
             [[rule]]\nid = \"r\"\ndir = \"egress\"\naction = \"{action}\"\nlog = true\n\
             class = [\"private\", \"cgnat\", \"cluster\"]\n"
        )
    };
    for (action, word) in [("allow", true), ("deny", false)] {
        let policy = pod(&text(action));
        for peer in ["10.1.2.3", "100.64.0.1", "fd00::1", "10.96.0.1"] {
            let flow = egress(&format!("tcp {peer} 80"));
            let verdict = policy.decide(&flow, &Names::default());
            assert_eq!(verdict.is_allow(), word);
            assert!(verdict.ground().log);
        }
        let other = policy.decide(&egress("tcp 203.0.113.1 80"), &Names::default());
        assert!(other.is_allow() && !other.ground().log);
    }
}

#[test]
fn public_is_what_is_nothing_else() {
    let text = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n\
                classes = { cluster = [\"198.51.100.0/24\"], lan = [\"203.0.113.0/24\"] }\n\
                [[rule]]\nid = \"lan\"\ndir = \"egress\"\naction = \"deny\"\nclass = [\"lan\"]\n\
                [[rule]]\nid = \"r\"\ndir = \"egress\"\naction = \"allow\"\nclass = [\"public\"]\n";
    let policy = pod(text);
    let decide =
        |peer: &str| said(&policy.decide(&egress(&format!("tcp {peer} 80")), &Names::default()));
    assert_eq!(decide("192.0.2.1"), "allow pod r rule");
    assert_eq!(decide("2001:db8::1"), "allow pod r rule");
    assert_eq!(decide("203.0.113.1"), "deny pod lan rule");
    for peer in ["10.0.0.1", "100.64.0.1", "fd00::1", "10.96.0.1", "198.51.100.1"] {
        assert_eq!(decide(peer), "deny pod default", "{peer}");
    }
}
