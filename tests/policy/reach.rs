//! What a pod reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sandbox_tests::network::{ECHO, METADATA, OTHER, OTHER_RESOLVER, RESOLVER, SCRIPT, SERVER};
use sandbox_tests::{Bed, tests};

use super::{HELLO, ONE_NAME, REFUSED, all_audited, audited, configure, shell};

tests![
    Ours one_name_is_reached_and_nothing_else,
    Ours without_a_policy_all_but_the_systems_is_open,
    Ours an_allowed_name_that_leads_inside_is_closed,
    Ours an_alias_of_an_allowed_name_is_followed,
    Ours ingress_is_decided_too,
    Ours a_policy_that_drops_says_nothing,
];

/// A connection that is to be refused, and why.
struct Refusal {
    /// As the guest writes it.
    to: SocketAddr,
    /// As it comes out of the guest.
    audited: SocketAddr,
    reason: &'static str,
    /// An IPv6 address with the host's own of IPv4 inside: either is a reason.
    inside: bool,
}

/// The same host, in the ways in which IPv6 can say it.
fn forms(ip: IpAddr, port: u16, reason: &'static str) -> Vec<Refusal> {
    let plain = |ip: IpAddr, inside| {
        let to = SocketAddr::new(ip, port);
        Refusal { to, audited: to, reason, inside }
    };
    let IpAddr::V4(v4) = ip else { return vec![plain(ip, false)] };
    let [a, b, c, d] = v4.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    // The guest's kernel makes IPv4 of it.
    let mapped = Refusal {
        to: SocketAddr::new(v4.to_ipv6_mapped().into(), port),
        audited: SocketAddr::new(ip, port),
        reason,
        inside: false,
    };
    let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
    let six_to_four = Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1);
    vec![plain(ip, false), mapped, plain(nat64.into(), true), plain(six_to_four.into(), true)]
}

fn name_servers(bed: &Bed) {
    let dns = &bed.network().dns;
    dns.set_addresses("api.world.test", &SERVER.each());
    dns.set_addresses("evil.world.test", &SERVER.each());
    dns.set_addresses("doh.world.test", &OTHER.each());
}

/// The list of the requirement: each is refused with the errno of a closed
/// port, and each has its line. R70, R73, R76.
fn one_name_is_reached_and_nothing_else(bed: &Bed) {
    let network = bed.network();
    let neighbour = network.neighbour();
    network.serve(&neighbour.namespace, "neighbour", &["listen", "[::]:443", "say:hello"]);
    name_servers(bed);
    configure(bed, None);
    let shell = shell(bed, Some(ONE_NAME));

    let mut refusals = vec![];
    for ip in SERVER.each().into_iter().chain(OTHER.each()) {
        refusals.extend(forms(ip, 443, "no-name"));
    }
    for ip in neighbour.address.each() {
        refusals.extend(forms(ip, 443, "no-name"));
    }
    refusals.extend(forms(METADATA.into(), 80, "system:metadata"));
    refusals.extend(forms("fd00:ec2::254".parse().unwrap(), 80, "system:metadata"));
    for ip in &network.node {
        refusals.extend(forms(*ip, SCRIPT, "system:host"));
    }
    refusals.extend(forms(OTHER_RESOLVER.into(), 53, "other-resolver"));
    let commands: Vec<String> =
        refusals.iter().map(|refusal| format!("toolbox tcp {} recv", refusal.to)).collect();
    let told = at_once(&shell, &commands);
    for (command, told) in commands.iter().zip(&told) {
        assert_eq!(told, REFUSED, "{command}");
    }
    let to: Vec<String> = refusals.iter().map(|refusal| refusal.audited.to_string()).collect();
    let wanted: Vec<Vec<(&str, &str)>> = refusals
        .iter()
        .zip(&to)
        .map(|(refusal, to)| {
            let mut line = vec![("dst", to.as_str()), ("proto", "tcp"), ("verdict", "deny")];
            if !refusal.inside {
                line.push(("reason", refusal.reason));
            }
            line
        })
        .collect();
    all_audited(bed, &wanted);

    datagrams_and_pings_are_refused(bed, &shell);
    other_names_and_servers_teach_nothing(bed, &shell);

    assert_eq!(shell.line("toolbox tcp-name api.world.test 443 line"), HELLO);
    audited(bed, &[("verdict", "allow"), ("rule", "api"), ("names", "api.world.test")]);
    assert_eq!(shell.line("toolbox tcp-name api.world.test 80 recv"), REFUSED);
    // What cannot be told apart once the name is known; see docs/policy.md.
    assert_eq!(shell.line(&format!("toolbox tcp {}:443 line", SERVER.v4)), HELLO);
    shell.end();
}

/// The commands beside each other; what each said.
fn at_once(shell: &sandbox_tests::Shell<'_>, commands: &[String]) -> Vec<String> {
    let mut script = "rm -rf /told; mkdir /told; cd /told\n".to_owned();
    for (number, command) in commands.iter().enumerate() {
        script.push_str(&format!("{command} >{number:03} 2>&1 &\n"));
    }
    script.push_str("wait; cat *\n");
    let told = shell.line(&script);
    let told: Vec<String> = told.lines().map(str::to_owned).collect();
    assert_eq!(told.len(), commands.len(), "{told:#?}");
    told
}

fn datagrams_and_pings_are_refused(bed: &Bed, shell: &sandbox_tests::Shell<'_>) {
    let [four, six] = SERVER.each();
    let commands = [
        format!("toolbox udp {} patience:5000 send:1 recv", SocketAddr::new(four, ECHO)),
        format!("toolbox udp {} patience:5000 send:1 recv", SocketAddr::new(six, ECHO)),
        format!("ping -c 1 -W 1 {four} | grep -c 'bytes from'"),
        format!("ping -c 1 -W 1 {six} | grep -c 'bytes from'"),
    ];
    // As for anybody whom a router tells of an administrator's word.
    let expected =
        ["connect=ok send=1 recv=EHOSTUNREACH", "connect=ok send=1 recv=EACCES", "0", "0"];
    assert_eq!(at_once(shell, &commands), expected);
    let udp = [four, six].map(|ip| SocketAddr::new(ip, ECHO).to_string());
    let wanted = udp.each_ref().map(|to| {
        vec![("dst", to.as_str()), ("proto", "udp"), ("verdict", "deny"), ("reason", "no-name")]
    });
    all_audited(bed, &wanted);
    let icmp = [four, six].map(|ip| SocketAddr::new(ip, 0).to_string());
    let wanted = icmp.each_ref().map(|to| {
        vec![("dst", to.as_str()), ("proto", "icmp"), ("verdict", "deny"), ("reason", "no-name")]
    });
    all_audited(bed, &wanted);
    for ip in SERVER.each() {
        let told = bed.network().told(&format!("udp-{ip}"));
        assert_eq!(told.lines().count(), 1, "datagrams arrived: {told}");
    }
}

fn other_names_and_servers_teach_nothing(bed: &Bed, shell: &sandbox_tests::Shell<'_>) {
    for name in ["evil.world.test", "doh.world.test", "secret-in-a-name.evil.test"] {
        let told = shell.line(&format!("toolbox look-up {name}"));
        assert!(told.starts_with("none"), "{name}: {told}");
        audited(bed, &[("verdict", "block"), ("names", name)]);
    }
    shell.line(&format!("nslookup -type=a api.world.test {OTHER_RESOLVER}"));
    let to = SocketAddr::new(OTHER_RESOLVER.into(), 53).to_string();
    audited(bed, &[("verdict", "deny"), ("proto", "udp"), ("dst", &to)]);
    let asked = bed.network().dns.asked();
    assert_eq!(asked, Vec::<String>::new(), "queries that left");
    let still = shell.line(&format!("toolbox tcp {}:443 recv", SERVER.v4));
    assert_eq!(still, REFUSED, "a server that is not pinned has taught a name");
}

/// No policy: as under runc, but for what no pod needs. R78.
fn without_a_policy_all_but_the_systems_is_open(bed: &Bed) {
    configure(bed, None);
    let network = bed.network();
    let shell = shell(bed, None);
    let mut commands = vec![];
    for ip in SERVER.each() {
        commands.push(format!("toolbox tcp {} line", SocketAddr::new(ip, 443)));
    }
    let open = commands.len();
    let mut refusals = forms(METADATA.into(), 80, "system:metadata");
    refusals.extend(network.node.iter().flat_map(|ip| forms(*ip, SCRIPT, "system:host")));
    commands.extend(refusals.iter().map(|refusal| format!("toolbox tcp {} recv", refusal.to)));
    let told = at_once(&shell, &commands);
    assert_eq!(told[..open], [HELLO; 2]);
    for (command, told) in commands.iter().zip(&told).skip(open) {
        assert_eq!(told, REFUSED, "{command}");
    }
    let lines: Vec<_> = refusals.iter().map(|r| (r.audited.to_string(), r.reason)).collect();
    let wanted: Vec<_> = lines
        .iter()
        .map(|(to, reason)| vec![("dst", to.as_str()), ("verdict", "deny"), ("reason", *reason)])
        .collect();
    all_audited(bed, &wanted);
    shell.end();
}

/// R72: rebinding. The address is taken out of the answer, and closed when
/// it is dialled as if it had been there.
fn an_allowed_name_that_leads_inside_is_closed(bed: &Bed) {
    configure(bed, None);
    let network = bed.network();
    let neighbour = network.neighbour();
    network.serve(&neighbour.namespace, "neighbour", &["listen", "[::]:443", "say:hello"]);
    let inside: Vec<IpAddr> = vec![
        neighbour.address.v4.into(),
        neighbour.address.v6.into(),
        METADATA.into(),
        Ipv4Addr::LOCALHOST.into(),
        Ipv6Addr::LOCALHOST.into(),
        neighbour.address.v4.to_ipv6_mapped().into(),
    ];
    let shell = shell(bed, Some(ONE_NAME));
    for ip in &inside {
        network.dns.set_addresses("api.world.test", &[*ip]);
        let told = shell.line("toolbox look-up api.world.test");
        assert!(told.starts_with("none"), "{ip} is in the answer: {told}");
    }
    for ip in &inside[..3] {
        let told = shell.line(&format!("toolbox tcp {} recv", SocketAddr::new(*ip, 443)));
        assert_eq!(told, REFUSED, "{ip}");
    }
    // An address outside beside one inside is kept.
    network.dns.set_addresses("api.world.test", &[inside[0], SERVER.v4.into()]);
    assert_eq!(shell.line("toolbox look-up api.world.test"), SERVER.v4.to_string());
    assert_eq!(shell.line("toolbox tcp-name api.world.test 443 line"), HELLO);
    shell.end();
}

/// R69.
fn an_alias_of_an_allowed_name_is_followed(bed: &Bed) {
    use sandbox_tests::network::Answer;
    configure(bed, None);
    let dns = &bed.network().dns;
    dns.set("api.world.test", &[Answer::Alias("edge.cdn.test".to_owned())]);
    dns.set_addresses("edge.cdn.test", &[SERVER.v4.into()]);
    let shell = shell(bed, Some(ONE_NAME));
    assert!(shell.line("toolbox look-up edge.cdn.test").starts_with("none"));
    assert_eq!(shell.line("toolbox tcp-name api.world.test 443 line"), HELLO);
    // The same over TCP: R73.
    shell.line(&format!("echo 'nameserver {RESOLVER}\noptions use-vc' >/etc/resolv.conf"));
    shell.end();
}

/// Who may connect to the pod.
fn ingress_is_decided_too(bed: &Bed) {
    configure(bed, None);
    let network = bed.network();
    let [server, other] = [SERVER.v4, OTHER.v4];
    let policy = format!(
        "version = 1\n[[rule]]\nid = \"in\"\ndir = \"ingress\"\naction = \"allow\"\n\
         proto = [\"tcp\"]\nports = [8080]\ncidr = [\"{server}/32\"]\n"
    );
    let shell = shell(bed, Some(&policy));
    shell.begin("toolbox listen 0.0.0.0:8080 say:hello");
    let to = SocketAddr::new(network.pod().address.v4.into(), 8080).to_string();
    let dial = |from: Ipv4Addr| {
        let bind = format!("bind:{from}:0");
        network.world.toolbox(&["tcp", &to, &bind, "connect", "await:in", "line"])
    };
    sandbox_tests::until("it listens", std::time::Duration::from_secs(20), || {
        dial(server).ends_with("line=hello").then_some(())
    });
    let refused = dial(other);
    assert!(!refused.contains("hello"), "{refused}");
    let from = |ip: Ipv4Addr, line: &serde_json::Value| {
        line["src"].as_str().is_some_and(|src| src.starts_with(&format!("{ip}:")))
    };
    sandbox_tests::until("both in the audit", std::time::Duration::from_secs(5), || {
        let lines = super::audit(bed);
        let of = |ip, verdict: &str| {
            lines.iter().any(|line| from(ip, line) && line["verdict"] == verdict)
        };
        (of(server, "allow") && of(other, "deny")).then_some(())
    });
    shell.end();
}

fn a_policy_that_drops_says_nothing(bed: &Bed) {
    configure(bed, None);
    let policy = "version = 1\ndefaults = { deny_mode = \"drop\" }\n";
    let shell = shell(bed, Some(policy));
    let told = shell.line(&format!("toolbox tcp {}:443 limit:2000 connect", SERVER.v4));
    assert_eq!(told, "connect=ETIMEDOUT");
    let to = format!("{}:443", SERVER.v4);
    audited(bed, &[("dst", &to), ("verdict", "deny"), ("reason", "default")]);
    shell.end();
}
