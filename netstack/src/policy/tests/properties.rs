//! What holds of every policy: compared with a plain reading of it, rule by
//! rule.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const NETWORKS: &[&str] = &[
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "203.0.113.0/24",
    "203.0.113.9/32",
    "203.0.113.8/31",
    "169.254.0.0/16",
    "2001:db8::/32",
    "2001:db8::9/128",
    "64:ff9b::/96",
    "::/0",
];
const PEERS: &[&str] = &[
    "10.1.2.3",
    "10.1.2.4",
    "10.96.0.10",
    "203.0.113.9",
    "203.0.113.8",
    "198.51.100.1",
    "169.254.169.254",
    "169.254.1.1",
    "192.168.7.1",
    "127.0.0.1",
    "100.64.1.1",
    "2001:db8::9",
    "2001:db9::1",
    "fd00::1",
    "64:ff9b::203.0.113.9",
    "64:ff9b::10.1.2.3",
    "2002:cb00:7109::1",
    "::ffff:203.0.113.9",
];
const PATTERNS: &[&str] = &["a.x", "b.x", "*.x", "a.b.x", "*.b.x", "a.y", "*.y"];
const NAMES: &[&str] = &["a.x", "b.x", "a.b.x", "a.y", "z.z", "x"];

fn some<T: Clone + std::fmt::Debug + 'static>(
    from: &'static [&'static str],
    parse: impl Fn(&str) -> T + Clone + 'static,
    chance: f64,
) -> impl Strategy<Value = Option<Vec<T>>> {
    let one = select(from).prop_map(parse);
    prop::option::weighted(chance, prop::collection::vec(one, 1..3))
}

fn a_rule() -> impl Strategy<Value = Rule> {
    let action = select(&[Action::Allow, Action::Deny, Action::Pass][..]);
    let dir = prop_oneof![4 => Just(Direction::Egress), 1 => Just(Direction::Ingress)];
    let proto = prop::option::weighted(0.4, prop::collection::vec(select(Protocol::ALL), 1..3));
    let ports = some(&["53", "80", "443", "1-100", "400-500"], |t| t.parse().unwrap(), 0.4);
    let cidr = some(NETWORKS, |t| t.parse().unwrap(), 0.4);
    let except = some(NETWORKS, |t| t.parse().unwrap(), 0.15);
    let class = some(
        &["private", "public", "metadata", "linklocal", "host", "cgnat", "cluster", "own"],
        |t| ClassName::try_from(t.to_owned()).unwrap(),
        0.25,
    );
    let name = some(PATTERNS, |t| t.parse().unwrap(), 0.4);
    (action, dir, proto, ports, cidr, except, class, name).prop_map(
        |(action, dir, proto, ports, cidr, except, class, name)| Rule {
            id: String::new(),
            dir,
            action,
            log: false,
            proto,
            ports,
            cidr,
            except,
            class,
            name: name.filter(|_| dir == Direction::Egress),
            sni: Sni::Off,
        },
    )
}

fn a_document() -> impl Strategy<Value = Document> {
    let stance = select(&[Stance::Allow, Stance::Deny][..]);
    let other = select(&[None, Some(Other::Deny), Some(Other::Rules)][..]);
    let rules = prop::collection::vec(a_rule(), 0..7);
    let private = some(PATTERNS, |t| t.parse().unwrap(), 0.3);
    (stance.clone(), stance, other, private, rules).prop_map(
        |(egress, ingress, other, private, mut rules)| {
            for (number, rule) in rules.iter_mut().enumerate() {
                rule.id = format!("r{number}");
            }
            let dns = Dns { other, private_names: private.unwrap_or_default(), ..Dns::default() };
            Document {
                version: 1,
                defaults: Defaults { egress, ingress, ..Defaults::default() },
                dns,
                classes: [("own".to_owned(), vec!["203.0.113.8/29".parse().unwrap()])].into(),
                rules,
            }
        },
    )
}

fn a_layer() -> impl Strategy<Value = Option<Document>> {
    prop::option::weighted(0.8, a_document())
}

fn a_flow() -> impl Strategy<Value = Flow> {
    let direction = prop_oneof![4 => Just(Direction::Egress), 1 => Just(Direction::Ingress)];
    (direction, select(Protocol::ALL), select(PEERS), select(&[53_u16, 80, 443, 9000][..]))
        .prop_map(|(direction, protocol, peer, port)| Flow {
            direction,
            protocol,
            peer: ip(peer),
            port,
        })
}

fn some_names() -> impl Strategy<Value = Names> {
    let known =
        (select(NAMES), prop::collection::vec(select(NAMES), 0..3)).prop_map(|(asked, chain)| {
            Known { asked: name(asked), chain: chain.into_iter().map(name).collect() }
        });
    prop::collection::vec(known, 0..4)
        .prop_map(|live| Names { live: live.into(), has_expired: false })
}

fn policy(node: &Option<Document>, pod: &Option<Document>) -> Policy {
    let layer = |file: &Option<Document>| match file {
        Some(file) => Layer::Read(Arc::new(file.clone())),
        None => Layer::Unset,
    };
    Policy::new(&layer(node), &layer(pod), place(), 1)
}

/// The plain reading: every rule in turn.
mod naive {
    use super::*;

    /// Allowed, denied, denied by a rule with names, or the next tier's.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Word {
        Allow,
        Deny,
        DenyName,
        Next,
    }

    struct Naive<'a> {
        node: &'a Option<Document>,
        pod: &'a Option<Document>,
        place: Place,
    }

    pub fn allows(
        node: &Option<Document>,
        pod: &Option<Document>,
        flow: &Flow,
        names: &Names,
    ) -> bool {
        let forms = Forms::of(flow.peer);
        let may_be_loopback = flow.direction == Direction::Ingress;
        let is_bad = |form: IpAddr| {
            form.is_unspecified()
                || form.is_multicast()
                || (form.is_loopback() && !may_be_loopback)
                || matches!(form, IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240)
        };
        let naive = Naive { node, pod, place: place() };
        !forms.is_mapped()
            && !forms.iter().any(is_bad)
            && forms.iter().all(|form| naive.form(flow, form, names))
    }

    impl Naive<'_> {
        fn form(&self, flow: &Flow, form: IpAddr, names: &Names) -> bool {
            if names.live.is_empty() {
                return self.walk(flow, form, None) == Word::Allow;
            }
            let words: Vec<_> =
                names.live.iter().map(|known| self.walk(flow, form, Some(known))).collect();
            !words.contains(&Word::DenyName) && words.contains(&Word::Allow)
        }

        fn uses_names(&self) -> bool {
            [self.node, self.pod]
                .into_iter()
                .flatten()
                .any(|file| file.rules.iter().any(|rule| rule.name.is_some()))
        }

        fn walk(&self, flow: &Flow, form: IpAddr, known: Option<&Known>) -> Word {
            if flow.direction == Direction::Egress && self.is_closed(flow, form, known) {
                return Word::Deny;
            }
            let node = self.file(self.node, flow, form, known, self.pod.is_none());
            if node != Word::Next {
                return node;
            }
            match self.file(self.pod, flow, form, known, true) {
                Word::Next => match self.node {
                    Some(file) if default(file, flow) == Stance::Deny => Word::Deny,
                    _ => Word::Allow,
                },
                word => word,
            }
        }

        fn file(
            &self,
            file: &Option<Document>,
            flow: &Flow,
            form: IpAddr,
            known: Option<&Known>,
            is_last: bool,
        ) -> Word {
            let Some(file) = file else { return Word::Next };
            let is_dns = flow.direction == Direction::Egress
                && flow.port == 53
                && flow.protocol != Protocol::Icmp;
            let is_pinned = form == ip("10.96.0.10");
            let has_names = file.rules.iter().any(|rule| rule.name.is_some());
            let denies_other = match file.dns.other {
                Some(other) => other == Other::Deny,
                None => has_names,
            };
            if denies_other && is_dns && !is_pinned {
                return Word::Deny;
            }
            if let Some(rule) = self.first(file, flow, form, known) {
                return match rule.action {
                    Action::Allow => Word::Allow,
                    Action::Deny if rule.name.is_some() => Word::DenyName,
                    Action::Deny if self.denies_name(file, flow, form, known, is_last) => {
                        Word::DenyName
                    }
                    Action::Deny => Word::Deny,
                    Action::Pass => Word::Next,
                };
            }
            let is_probe = flow.direction == Direction::Ingress && form == ip("192.168.7.1");
            if is_probe || (is_dns && is_pinned && self.uses_names()) {
                return if is_last { Word::Allow } else { Word::Next };
            }
            match default(file, flow) {
                Stance::Deny => Word::Deny,
                Stance::Allow if is_last => Word::Allow,
                Stance::Allow => Word::Next,
            }
        }

        /// Whether a rule with names denies it in a file without other denials.
        fn denies_name(
            &self,
            file: &Document,
            flow: &Flow,
            form: IpAddr,
            known: Option<&Known>,
            is_last: bool,
        ) -> bool {
            let mut file = file.clone();
            file.rules.retain(|rule| rule.action != Action::Deny || rule.name.is_some());
            let word = match self.file(&Some(file), flow, form, known, is_last) {
                Word::Next if !is_last => self.file(self.pod, flow, form, known, true),
                word => word,
            };
            word == Word::DenyName
        }

        fn is_closed(&self, flow: &Flow, form: IpAddr, known: Option<&Known>) -> bool {
            let opener = self
                .node
                .as_ref()
                .and_then(|file| self.first(file, flow, form, known))
                .filter(|rule| rule.action == Action::Allow);
            [Class::Metadata, Class::LinkLocal, Class::Host].into_iter().any(|class| {
                class.contains(form, &self.place)
                    && !opener.is_some_and(|rule| {
                        let named = rule
                            .class
                            .iter()
                            .flatten()
                            .any(|own| *own == ClassName::BuiltIn(class));
                        let narrow = rule.cidr.iter().flatten().any(|net| {
                            net.contains(form) && (class.covers(net) || *net == Cidr::host(form))
                        });
                        named || narrow
                    })
            })
        }

        fn first<'f>(
            &self,
            file: &'f Document,
            flow: &Flow,
            form: IpAddr,
            known: Option<&Known>,
        ) -> Option<&'f Rule> {
            file.rules.iter().find(|rule| {
                self.matches(file, rule, flow, form, known)
                    && !self.rebinds(file, rule, form, known)
            })
        }

        fn matches(
            &self,
            file: &Document,
            rule: &Rule,
            flow: &Flow,
            form: IpAddr,
            known: Option<&Known>,
        ) -> bool {
            let in_class = |class: &ClassName| match class {
                ClassName::BuiltIn(class) => class.contains(form, &self.place),
                ClassName::Own(own) if own == "cluster" => {
                    self.place.cluster.iter().any(|net| net.contains(form))
                }
                ClassName::Own(own) => file.classes[own].iter().any(|net| net.contains(form)),
            };
            let named = |patterns: &Vec<Pattern>| {
                let hit = |name: &Name| patterns.iter().any(|pattern| pattern.matches(name));
                known.is_some_and(|known| {
                    hit(&known.asked)
                        || (rule.action == Action::Deny && known.chain.iter().any(hit))
                })
            };
            rule.dir == flow.direction
                && rule.proto.as_ref().is_none_or(|own| own.contains(&flow.protocol))
                && rule.ports.as_ref().is_none_or(|own| {
                    flow.protocol != Protocol::Icmp
                        && own.iter().any(|ports| ports.contains(flow.port))
                })
                && rule.cidr.as_ref().is_none_or(|own| own.iter().any(|net| net.contains(form)))
                && !rule.except.iter().flatten().any(|net| net.contains(form))
                && rule.class.as_ref().is_none_or(|own| own.iter().any(in_class))
                && rule.name.as_ref().is_none_or(named)
        }

        fn rebinds(
            &self,
            file: &Document,
            rule: &Rule,
            form: IpAddr,
            known: Option<&Known>,
        ) -> bool {
            rule.name.is_some()
                && rule.action != Action::Deny
                && rule.cidr.is_none()
                && rule.class.is_none()
                && !Class::Public.contains(form, &self.place)
                && !known.is_some_and(|known| {
                    file.dns.private_names.iter().any(|own| own.matches(&known.asked))
                })
        }
    }

    fn default(file: &Document, flow: &Flow) -> Stance {
        match flow.direction {
            Direction::Egress => file.defaults.egress,
            Direction::Ingress => file.defaults.ingress,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// R80: what the index finds is what reading every rule in turn finds.
    #[test]
    fn decisions_are_those_of_the_plain_reading(
        node in a_layer(), pod in a_layer(), flow in a_flow(), names in some_names(),
    ) {
        let verdict = policy(&node, &pod).decide(&flow, &names);
        let plain = naive::allows(&node, &pod, &flow, &names);
        prop_assert_eq!(verdict.is_allow(), plain, "{:?}", verdict);
    }

    /// A denial more never opens anything, wherever it is put.
    #[test]
    fn a_denial_more_allows_no_more(
        node in a_layer(), pod in a_layer(), flow in a_flow(), names in some_names(),
        rule in a_rule(), at in any::<prop::sample::Index>(), in_node in any::<bool>(),
    ) {
        // That a rule has names at all says that DNS is wanted: not part of it.
        let mut rule = rule;
        rule.action = Action::Deny;
        let before = policy(&node, &pod);
        if !before.uses_names() {
            rule.name = None;
        }
        rule.id = "more".to_owned();
        let (mut node, mut pod) = (node, pod);
        if let Some(file) = if in_node { &mut node } else { &mut pod } {
            let at = at.index(file.rules.len() + 1);
            file.rules.insert(at, rule);
        }
        let after = policy(&node, &pod).decide(&flow, &names);
        prop_assert!(!after.is_allow() || before.decide(&flow, &names).is_allow());
    }

    /// What is refused without knowing all is allowed by nothing.
    #[test]
    fn what_is_refused_early_is_never_allowed(
        node in a_layer(), pod in a_layer(), flow in a_flow(), names in some_names(),
    ) {
        let policy = policy(&node, &pod);
        let mut flow = flow;
        flow.direction = Direction::Egress;
        let Some(known) = names.live.first().cloned() else { return Ok(()) };
        let alone = Names { live: Arc::new([known.clone()]), has_expired: false };
        let verdict = policy.decide(&flow, &alone);
        // The way to the server itself is not what the name was asked for.
        let is_dns = flow.port == 53 && flow.protocol != Protocol::Icmp;
        if verdict.is_allow() && !is_dns {
            prop_assert!(policy.may_ask(&Known::plain(known.asked.clone())).is_ok());
            prop_assert!(policy.may_reach(flow.peer, &known).is_ok());
        }
    }

    /// No flow has a permit for anything but what was asked.
    #[test]
    fn a_permit_is_for_what_was_asked(
        node in a_layer(), pod in a_layer(), flow in a_flow(), names in some_names(),
    ) {
        if let Verdict::Allow(permit) = policy(&node, &pod).decide(&flow, &names) {
            prop_assert_eq!(permit.flow(), &flow);
            prop_assert_eq!(permit.names(), &names);
        }
    }

    #[test]
    fn files_survive_being_written(file in a_document()) {
        let toml = file.to_toml().unwrap();
        prop_assert_eq!(&toml::from_str::<Document>(&toml).unwrap(), &file);
        let json = serde_json::to_string(&file).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Document>(&json).unwrap(), &file);
    }

    /// No text makes the loader panic, and what it takes can be used.
    #[test]
    fn any_text_is_taken_or_refused(text in "[\\[\\]{}\"=a-z0-9./:*, \n-]{0,200}") {
        let _ = Document::load(&text);
        let _ = Document::load(&format!("{{{text}"));
    }

    #[test]
    fn canonical_forms_stay(bits in any::<u128>(), v4 in any::<u32>(), kind in 0..6) {
        let high = |prefix: u128| (prefix << 96) | u128::from(v4);
        let bits = match kind {
            0 => bits,
            1 => (0xffff << 32) | u128::from(v4),
            2 => high(0x0064_ff9b),
            3 => (0x2002 << 112) | (u128::from(v4) << 80),
            4 => high(0x2001_0000),
            _ => u128::from(v4),
        };
        let address = IpAddr::V6(std::net::Ipv6Addr::from_bits(bits));
        let forms = Forms::of(address);
        let again = Forms::of(forms.canonical());
        prop_assert_eq!(again.canonical(), forms.canonical());
        prop_assert!(!again.is_mapped());
        if !forms.is_mapped() {
            prop_assert_eq!(again, forms);
        }
        let carried = std::net::Ipv4Addr::from_bits(v4);
        if (1..4).contains(&kind) {
            prop_assert!(forms.iter().any(|form| form == IpAddr::V4(carried)));
        }
    }

    /// A network has an address if its bits are the same, and covers another
    /// if it has all of its addresses.
    #[test]
    fn networks_are_their_bits(one in any::<u32>(), length in 0_u8..=32, other in any::<u32>(), longer in 0_u8..=32) {
        let v4 = |bits| IpAddr::V4(std::net::Ipv4Addr::from_bits(bits));
        let net = Cidr::covering(v4(one), length);
        let same = (0..length).all(|bit| (one ^ other) >> (31 - bit) & 1 == 0);
        prop_assert_eq!(net.contains(v4(other)), same);
        let second = Cidr::covering(v4(other), longer);
        prop_assert_eq!(net.covers(&second), same && longer >= length);
        prop_assert_eq!(net.to_string().parse::<Cidr>().unwrap(), net);
    }
}
