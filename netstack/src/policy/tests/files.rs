use super::*;

/// A file with one rule of these lines, beginning on line 3.
fn rule(lines: &str) -> String {
    let head = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n";
    format!("{head}[[rule]]\nid = \"r\"\ndir = \"egress\"\naction = \"allow\"\n{lines}\n")
}

fn problem(text: &str) -> String {
    Document::load(text).unwrap_err().to_string()
}

fn warnings(text: &str) -> Vec<String> {
    Document::load(text).unwrap().warnings.iter().map(ToString::to_string).collect()
}

/// R68, R75: every error names its line, its key and what to write.
#[test]
fn problems_name_line_key_and_fix() {
    let cases = [
        ("cidr = [\"10.0.0.1/8\"]", "line 7: rule[1].cidr", "write 10.0.0.0/8"),
        ("cidr = [\"10.0.0.0/33\"]", "line 7: rule[1].cidr", "at most /32"),
        ("cidr = [\"2001:db8::/129\"]", "line 7: rule[1].cidr", "at most /128"),
        ("cidr = [\"2001:db8::1/64\"]", "line 7: rule[1].cidr", "write 2001:db8::/64"),
        ("cidr = [\"10.0.0.0\"]", "line 7: rule[1].cidr", "write it as 10.0.0.0/8"),
        ("cidr = [\"::ffff:10.0.0.0/104\"]", "line 7: rule[1].cidr", "write it as IPv4"),
        ("cidr = []", "line 7: rule[1].cidr (rule `r`)", "leave the key out"),
        ("proto = []", "line 7: rule[1].proto (rule `r`)", "leave the key out"),
        ("ports = []", "line 7: rule[1].ports (rule `r`)", "leave the key out"),
        ("name = []", "line 7: rule[1].name (rule `r`)", "leave the key out"),
        ("class = []", "line 7: rule[1].class (rule `r`)", "leave the key out"),
        ("except = []", "line 7: rule[1].except (rule `r`)", "leave the key out"),
        ("ports = [\"9-8\"]", "line 7: rule[1].ports", "write \"8-9\""),
        ("ports = [0]", "line 7: rule[1].ports", "invalid port 0"),
        ("ports = [65536]", "line 7: rule[1].ports", "write 443"),
        ("ports = [-1]", "line 7: rule[1].ports", "write 443"),
        ("ports = [\"1-2-3\"]", "line 7: rule[1].ports", "write 443"),
        ("name = [\"a.*.example\"]", "line 7: rule[1].name", "as in *.example.com"),
        ("name = [\"10.0.0.1\"]", "line 7: rule[1].name", "put it under `cidr`"),
        ("prots = [\"tcp\"]", "line 7: rule[1].prots", "expected one of"),
        ("proto = [\"sctp\"]", "line 7: rule[1].proto", "expected one of"),
        ("class = [\"Priv ate\"]", "line 7: rule[1].class", "small letters"),
        ("class = [\"lan\"]", "line 7: rule[1].class (rule `r`)", "under [classes]"),
        ("proto = [\"icmp\"]\nports = [1]", "line 8: rule[1].ports (rule `r`)", "without `ports`"),
        (
            "cidr = [\"10.0.0.0/8\"]\nexcept = [\"11.0.0.0/8\"]",
            "line 8: rule[1].except",
            "excludes",
        ),
        ("sni = \"check\"", "line 7: rule[1].sni (rule `r`)", "leave `sni` out"),
        ("action = \"deny\"", "line 7: action", "duplicate key"),
    ];
    for (lines, at, fix) in cases {
        let said = problem(&rule(lines));
        assert!(said.starts_with(at) && said.contains(fix), "{lines}: {said}");
    }
}

#[test]
fn problems_outside_of_rules() {
    let cases = [
        ("version = 2", "line 1: version: version 2 is not known; write version = 1"),
        ("rule = []", "missing field `version`"),
        ("version = 1\n\ndefault = {}", "line 3: default: unknown field `default`"),
        ("version = 1\n[defaults]\negress = \"log\"", "line 3: defaults.egress: unknown variant"),
        ("version = 1\n[dns]\nresolvers = \"any\"", "line 3: dns.resolvers: resolvers is \"pod\""),
        ("version = 1\n[dns]\nresolvers = []", "line 3: dns.resolvers: the list is empty"),
        ("version = 1\n[dns]\nresolvers = [\"x\"]", "line 3: dns.resolvers: resolvers is \"pod\""),
        ("version = 1\n[dns]\nmin_ttl = 7200", "line 3: dns.min_ttl: 7200 is more than max_ttl"),
        ("version = 1\n[dns]\ngrace = 999999999", "line 3: dns.grace: 999999999 seconds"),
        (
            "version = 1\n[classes]\nhost = [\"10.0.0.0/8\"]",
            "line 3: classes.host: `host` is built in",
        ),
        ("version = 1\n[classes]\nlan = []", "line 3: classes.lan: the list is empty"),
        ("version = ", "line 1"),
        ("", "missing field `version`"),
    ];
    for (text, expected) in cases {
        let said = problem(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
}

#[test]
fn problems_in_json() {
    let file = |rule: &str| {
        format!(
            "{{\"version\": 1,\n \"rule\": [\n  {{\"id\": \"r\", \"dir\": \"egress\",\n   {rule}}}\n]}}"
        )
    };
    let cases = [
        (
            "\"action\": \"allow\", \"cidr\": [\"10.0.0.1/8\"]",
            "line 4: rule[1].cidr",
            "write 10.0.0.0/8",
        ),
        (
            "\"action\": \"allow\", \"cidr\": []",
            "line 4: rule[1].cidr (rule `r`)",
            "leave the key out",
        ),
        ("\"action\": \"allow\", \"prots\": []", "line 4: rule[1]", "unknown field `prots`"),
        ("\"action\": \"log\"", "line 4: rule[1].action", "unknown variant `log`"),
    ];
    for (rule, at, fix) in cases {
        let said = problem(&file(rule));
        assert!(said.starts_with(at) && said.contains(fix), "{rule}: {said}");
    }
    assert!(problem("{\"version\": 1,\n").starts_with("line 2"));
}

#[test]
fn ids_are_of_one_rule() {
    let second = "[[rule]]\nid = \"r\"\ndir = \"ingress\"\naction = \"deny\"\n";
    let said = problem(&format!("{}{second}", rule("")));
    assert_eq!(said, "line 9: rule[2].id (rule `r`): rule 1 has this id already; take another");
    let said = problem(&rule("").replace("\"r\"", "\"a\\nb\""));
    assert!(said.contains("no control characters"), "{said}");
}

#[test]
fn nobody_comes_in_by_a_name() {
    let text = rule("name = [\"a.example\"]").replace("egress\"\naction", "ingress\"\naction");
    let said = problem(&text);
    assert!(said.starts_with("line 7: rule[1].name") && said.contains("write `cidr`"), "{said}");
}

/// Two rules: what matches the second is all in the first.
fn two(first: &str, second: &str) -> String {
    let one = |id: &str, text: &str| format!("[[rule]]\nid = \"{id}\"\ndir = \"egress\"\n{text}\n");
    format!("version = 1\n{}{}", one("a", first), one("b", second))
}

#[test]
fn shadowed_rules_are_refused() {
    let allow = |rest: &str| format!("action = \"allow\"\n{rest}");
    let deny = |rest: &str| format!("action = \"deny\"\n{rest}");
    let shadowed = [
        (allow("name = [\"*.x.example\"]"), deny("name = [\"a.x.example\"]")),
        (deny("name = [\"*.x.example\"]"), allow("name = [\"a.x.example\"]\nports = [443]")),
        (deny(""), allow("cidr = [\"10.0.0.0/8\"]")),
        (deny("cidr = [\"10.0.0.0/8\"]"), allow("cidr = [\"10.1.0.0/16\", \"10.2.0.0/16\"]")),
        (deny("cidr = [\"::/0\"]"), allow("cidr = [\"2001:db8::/32\"]\nname = [\"a.example\"]")),
        (deny("class = [\"private\"]"), allow("cidr = [\"10.1.0.0/16\"]")),
        (deny("class = [\"private\", \"cgnat\"]"), allow("class = [\"cgnat\"]")),
        (deny("ports = [\"1-100\"]"), allow("ports = [22, 80]")),
        (deny("ports = [22]"), allow("ports = [22]\ncidr = [\"10.0.0.0/8\"]")),
        (deny("proto = [\"tcp\", \"udp\"]"), allow("ports = [22]")),
        (allow("cidr = [\"10.0.0.0/8\"]"), allow("cidr = [\"10.1.0.0/16\"]\nlog = true")),
        (
            deny("cidr = [\"10.0.0.0/8\"]\nexcept = [\"10.1.0.0/16\"]"),
            allow("cidr = [\"10.2.0.0/16\"]"),
        ),
    ];
    for (first, second) in shadowed {
        let said = problem(&two(&first, &second));
        assert!(said.contains("rule[2].id (rule `b`): shadowed rule: `a`"), "{first}: {said}");
        assert!(said.contains("line "), "{said}");
    }
    let reachable = [
        (deny("name = [\"a.x.example\"]"), allow("name = [\"*.x.example\"]")),
        (allow("name = [\"a.example\"]"), deny("")),
        (allow("name = [\"a.example\"]"), deny("name = [\"a.example\"]\nclass = [\"private\"]")),
        (deny("proto = [\"tcp\"]"), allow("ports = [53]")),
        (deny("proto = [\"tcp\", \"udp\"]"), allow("cidr = [\"10.0.0.0/8\"]")),
        (deny("cidr = [\"10.1.0.0/16\"]"), allow("cidr = [\"10.0.0.0/8\"]")),
        (deny("cidr = [\"0.0.0.0/0\"]"), allow("ports = [443]")),
        (
            deny("cidr = [\"10.0.0.0/8\"]\nexcept = [\"10.1.0.0/16\"]"),
            allow("cidr = [\"10.1.2.0/24\"]"),
        ),
    ];
    for (first, second) in reachable {
        let loaded = Document::load(&two(&first, &second));
        assert!(loaded.is_ok(), "{first} / {second}: {loaded:?}");
    }
}

#[test]
fn rules_that_are_not_needed_are_told() {
    let text = two(
        "action = \"allow\"\ncidr = [\"10.0.0.0/8\"]",
        "action = \"allow\"\ncidr = [\"10.1.0.0/16\"]",
    );
    let told = warnings(&text);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("line 8: rule[2].id (rule `b`): not needed: `a`"), "{told:?}");
}

#[test]
fn denials_that_do_not_hold_are_told() {
    let text = rule("name = [\"a.example\"]").replace("\"allow\"", "\"deny\"");
    assert!(warnings(&text).is_empty(), "everything else is denied anyhow");
    let open = text.replace("egress = \"deny\"", "egress = \"allow\"");
    let told = warnings(&open);
    assert!(told[0].starts_with("line 7: rule[1].name (rule `r`): advisory"), "{told:?}");
    let held = open.replace("name =", "cidr = [\"203.0.113.0/24\"]\nname =");
    assert!(warnings(&held).is_empty());
}

#[test]
fn toml_and_json_say_the_same() {
    let toml = r#"
        version = 1
        defaults = { egress = "deny", ingress = "allow", deny_mode = "drop", icmp_echo = "allow" }
        [dns]
        resolvers = ["10.96.0.10", "2001:db8::53"]
        other = "rules"
        private_names = ["*.cluster.local"]
        block_answer = "refused"
        [classes]
        cluster = ["10.96.0.0/12"]
        [[rule]]
        id = "r"
        dir = "egress"
        action = "pass"
        log = true
        proto = ["tcp", "udp"]
        ports = [443, "8000-8100"]
        cidr = ["10.0.0.0/8"]
        except = ["10.1.0.0/16"]
        class = ["private", "cluster", "node"]
        name = ["*.Example.com"]
        sni = "off"
    "#;
    let json = r#"{
        "version": 1,
        "defaults": {"egress": "deny", "ingress": "allow", "deny_mode": "drop", "icmp_echo": "allow"},
        "dns": {"resolvers": ["10.96.0.10", "2001:db8::53"], "other": "rules",
            "private_names": ["*.cluster.local"], "block_answer": "refused"},
        "classes": {"cluster": ["10.96.0.0/12"]},
        "rule": [{"id": "r", "dir": "egress", "action": "pass", "log": true,
            "proto": ["tcp", "udp"], "ports": [443, "8000-8100"], "cidr": ["10.0.0.0/8"],
            "except": ["10.1.0.0/16"], "class": ["private", "cluster", "host"],
            "name": ["*.example.com."], "sni": "off"}]
    }"#;
    let one = Document::load(toml).unwrap().document;
    assert_eq!(one, Document::load(json).unwrap().document);
    assert_eq!(Document::load(&one.to_toml().unwrap()).unwrap().document, one);
    let json = serde_json::to_string(&one).unwrap();
    assert_eq!(Document::load(&json).unwrap().document, one);
}

/// R78: no file and a file that cannot be read are two things.
#[test]
fn none_and_broken_are_told_apart() {
    assert!(matches!(Layer::load("version = 1"), Ok(Layer::Read(_))));
    for text in ["", "version = 3", "none", "{}"] {
        assert!(Layer::load(text).is_err(), "{text}");
    }
    let decide = |layer| {
        let policy = Policy::new(&Layer::Unset, &layer, place(), 1);
        said(&policy.decide(&egress("tcp 203.0.113.9 443"), &Names::default()))
    };
    assert_eq!(decide(Layer::Unset), "allow system default");
    assert_eq!(decide(Layer::Broken), "deny pod broken-policy");
    assert_eq!(decide(Layer::load("version = 1").unwrap()), "deny pod default");
}

#[test]
fn files_are_bounded() {
    assert!(problem(&" ".repeat(MAX_TEXT + 1)).contains("at most"));
    let entries = vec!["1"; MAX_ENTRIES + 1].join(",");
    assert!(problem(&rule(&format!("ports = [{entries}]"))).contains("at most 4096"));
    let deep = format!("version = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(Document::load(&deep).is_err());
    let deep = format!("{{\"version\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(Document::load(&deep).is_err());
}
