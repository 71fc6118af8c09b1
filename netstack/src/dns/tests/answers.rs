use super::*;

fn stripped(outcome: FromServer) -> Vec<u8> {
    match outcome {
        FromServer::Replace(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_opens_its_addresses() {
    let mut bench = Bench::new(&allow("api.example.com"));
    assert_eq!(bench.dial("203.0.113.9"), "deny no-name");
    let records = [
        address("api.example.com", 60, "203.0.113.9"),
        address("api.example.com", 60, "203.0.113.10"),
    ];
    assert_eq!(bench.resolve("api.example.com", A, &records), FromServer::Deliver);
    assert_eq!(bench.dial("203.0.113.9"), "allow rule");
    assert_eq!(bench.dial("203.0.113.10"), "allow rule");
    assert_eq!(bench.dial("203.0.113.11"), "deny no-name");
}

#[test]
fn ipv6_alone_is_enough() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let records = [address("api.example.com", 60, "2001:db8::9")];
    assert_eq!(bench.resolve("api.example.com", AAAA, &records), FromServer::Deliver);
    assert_eq!(bench.dial("2001:db8::9"), "allow rule");
}

#[test]
fn an_answer_must_fit_its_question() {
    let good = [address("api.example.com", 60, "203.0.113.9")];
    let fits = answer(1, "api.example.com", A, &good);
    let other_id = answer(2, "api.example.com", A, &good);
    let other_kind = answer(1, "api.example.com", AAAA, &good);
    let other_name = answer(1, "api.example.org", A, &good);
    let no_response = message(1, 0x0100, [1, 0, 0, 0], &[&question("api.example.com", A)]);
    for bad in [other_id, other_kind, other_name, no_response, fits[..fits.len() - 1].to_vec()] {
        let mut bench = Bench::new(&allow("api.example.com"));
        assert_eq!(bench.ask(&query(1, "api.example.com", A)), FromGuest::Forward);
        assert_eq!(bench.tell(&bad), FromServer::Drop);
        assert_eq!(bench.dial("203.0.113.9"), "deny no-name");
        // The right one may still come.
        assert_eq!(bench.tell(&fits), FromServer::Deliver);
        assert_eq!(bench.dial("203.0.113.9"), "allow rule");
        // And only once.
        assert_eq!(bench.tell(&fits), FromServer::Drop);
    }
}

#[test]
fn an_answer_from_elsewhere_does_not_fit() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let fits = answer(1, "api.example.com", A, &[address("api.example.com", 60, "203.0.113.9")]);
    assert_eq!(bench.ask(&query(1, "api.example.com", A)), FromGuest::Forward);
    let others: [(Channel, &str); 3] =
        [(Channel(8), "10.96.0.10:53"), (CHANNEL, "10.96.0.11:53"), (CHANNEL, "10.96.0.10:5353")];
    for (channel, server) in others {
        let server = server.parse().unwrap();
        let outcome = bench.observer.from_server(&bench.policy, channel, server, &fits, bench.now);
        assert_eq!(outcome, FromServer::Drop);
    }
    assert_eq!(bench.dial("203.0.113.9"), "deny no-name");
    assert_eq!(bench.observer.counters().bad_answers, 3);
}

#[test]
fn a_late_answer_does_not_fit() {
    let mut bench = Bench::new(&allow("api.example.com"));
    assert_eq!(bench.ask(&query(1, "api.example.com", A)), FromGuest::Forward);
    bench.now += Duration::from_secs(11);
    let late = answer(1, "api.example.com", A, &[address("api.example.com", 60, "203.0.113.9")]);
    assert_eq!(bench.tell(&late), FromServer::Drop);
}

#[test]
fn addresses_of_others_teach_nothing() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let records = [
        address("api.example.com", 60, "203.0.113.9"),
        address("evil.example.org", 60, "203.0.113.66"),
    ];
    let extra = record(&address("api.example.com", 60, "203.0.113.67"));
    let body: Vec<u8> = records.iter().flat_map(record).collect();
    let counts = [1, 2, 0, 1];
    let bytes = message(1, 0x8180, counts, &[&question("api.example.com", A), &body, &extra]);
    assert_eq!(bench.ask(&query(1, "api.example.com", A)), FromGuest::Forward);
    assert_eq!(bench.tell(&bytes), FromServer::Deliver);
    assert_eq!(bench.dial("203.0.113.9"), "allow rule");
    assert_eq!(bench.dial("203.0.113.66"), "deny no-name");
    assert_eq!(bench.dial("203.0.113.67"), "deny no-name");
}

/// R69: the name that was asked counts at the end of its aliases.
#[test]
fn aliases_are_followed() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let records = [
        address("c.cdn.example.net", 60, "203.0.113.9"),
        alias("b.cdn.example.net", "c.cdn.example.net"),
        alias("api.example.com", "b.cdn.example.net"),
    ];
    assert_eq!(bench.resolve("api.example.com", A, &records), FromServer::Deliver);
    assert_eq!(bench.dial("203.0.113.9"), "allow rule");
}

#[test]
fn aliases_that_circle_or_never_end_lead_nowhere() {
    let circle = vec![alias("api.example.com", "b.x"), alias("b.x", "api.example.com")];
    let mut long = vec![alias("api.example.com", "a0.x")];
    long.extend((0..16).map(|n| alias(&format!("a{n}.x"), &format!("a{}.x", n + 1))));
    long.push(address("a16.x", 60, "203.0.113.9"));
    for mut records in [circle, long] {
        records.push(address("api.example.com", 60, "203.0.113.9"));
        let mut bench = Bench::new(&allow("api.example.com"));
        assert_eq!(bench.resolve("api.example.com", A, &records), FromServer::Drop);
        assert_eq!(bench.dial("203.0.113.9"), "deny no-name");
    }
}

#[test]
fn sixteen_aliases_are_followed() {
    let mut records = vec![alias("api.example.com", "a0.x")];
    records.extend((0..15).map(|n| alias(&format!("a{n}.x"), &format!("a{}.x", n + 1))));
    records.push(address("a15.x", 60, "203.0.113.9"));
    let mut bench = Bench::new(&allow("api.example.com"));
    assert_eq!(bench.resolve("api.example.com", A, &records), FromServer::Deliver);
    assert_eq!(bench.dial("203.0.113.9"), "allow rule");
}

#[test]
fn a_truncated_answer_teaches_nothing() {
    let mut bench = Bench::new(&allow("api.example.com"));
    assert_eq!(bench.ask(&query(1, "api.example.com", A)), FromGuest::Forward);
    let body = record(&address("api.example.com", 60, "203.0.113.9"));
    let cut = message(1, 0x8380, [1, 1, 0, 0], &[&question("api.example.com", A), &body]);
    assert_eq!(bench.tell(&cut), FromServer::Deliver);
    assert_eq!(bench.dial("203.0.113.9"), "deny no-name");
    assert_eq!(bench.observer.counters().truncated, 1);
}

/// R71
#[test]
fn a_binding_ends_with_its_ttl_and_grace() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let records = [address("api.example.com", 60, "203.0.113.9")];
    bench.resolve("api.example.com", A, &records);
    bench.now += Duration::from_secs(359);
    assert_eq!(bench.dial("203.0.113.9"), "allow rule");
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.dial("203.0.113.9"), "deny expired");
    bench.resolve("api.example.com", A, &records);
    assert_eq!(bench.dial("203.0.113.9"), "allow rule");
}

#[test]
fn ttls_are_clamped() {
    // None, the highest, one with the bit that makes it none.
    let cases = [(0, 330), (u32::MAX >> 1, 3900), (1 << 31, 330), (100, 400)];
    for (ttl, lives) in cases {
        let mut bench = Bench::new(&allow("api.example.com"));
        bench.resolve("api.example.com", A, &[address("api.example.com", ttl, "203.0.113.9")]);
        bench.now += Duration::from_secs(lives - 1);
        assert_eq!(bench.dial("203.0.113.9"), "allow rule", "{ttl}");
        bench.now += Duration::from_secs(1);
        assert_eq!(bench.dial("203.0.113.9"), "deny expired", "{ttl}");
    }
}

#[test]
fn an_alias_shortens_the_ttl() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let records = [alias("api.example.com", "b.x"), address("b.x", 3000, "203.0.113.9")];
    bench.resolve("api.example.com", A, &records);
    bench.now += Duration::from_secs(360);
    assert_eq!(bench.dial("203.0.113.9"), "deny expired");
}

#[test]
fn a_new_set_of_addresses_joins_the_old() {
    let mut bench = Bench::new(&allow("api.example.com"));
    bench.resolve("api.example.com", A, &[address("api.example.com", 60, "203.0.113.9")]);
    bench.now += Duration::from_secs(200);
    bench.resolve("api.example.com", A, &[address("api.example.com", 60, "203.0.113.10")]);
    assert_eq!(bench.dial("203.0.113.9"), "allow rule");
    assert_eq!(bench.dial("203.0.113.10"), "allow rule");
    bench.now += Duration::from_secs(200);
    assert_eq!(bench.dial("203.0.113.9"), "deny expired");
    assert_eq!(bench.dial("203.0.113.10"), "allow rule");
}

#[test]
fn a_hundred_addresses_are_learnt() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let records: Vec<_> =
        (1..=100).map(|n| address("api.example.com", 60, &format!("203.0.113.{n}"))).collect();
    assert_eq!(bench.resolve("api.example.com", A, &records), FromServer::Deliver);
    assert_eq!(bench.observer.bindings().len(), 100);
}

/// R72
#[test]
fn a_name_of_the_outside_does_not_lead_inside() {
    let inside = [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "::ffff:10.1.2.3",
        "::ffff:127.0.0.1",
        "64:ff9b::10.1.2.3",
        "64:ff9b::169.254.169.254",
        "2002:a01:203::1",
        "2001::a01:203",
        "::10.1.2.3",
    ];
    for bad in inside {
        let mut bench = Bench::new(&allow("api.example.com"));
        let good = if bad.contains(':') { "2001:db8::9" } else { "203.0.113.9" };
        let kind = if bad.contains(':') { AAAA } else { A };
        let records = [address("api.example.com", 60, bad), address("api.example.com", 60, good)];
        let replaced = stripped(bench.resolve("api.example.com", kind, &records));
        // Compressed, as servers write it: the record is 12 bytes and its data.
        let data = &address("", 0, good).data;
        assert!(replaced.ends_with(data), "{bad}");
        assert_eq!(replaced[7], 1, "{bad}");
        assert_eq!(bench.dial(good), "allow rule", "{bad}");
        assert_eq!(bench.observer.bindings().len(), 1, "{bad}");
        assert_eq!(bench.observer.counters().stripped, 1, "{bad}");
        assert!(bench.dial(bad).starts_with("deny"), "{bad}");
    }
}

#[test]
fn an_answer_of_nothing_but_the_inside_has_no_data() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let records = [alias("api.example.com", "b.x"), address("b.x", 60, "10.0.0.1")];
    let replaced = stripped(bench.resolve("api.example.com", A, &records));
    // The alias is left, and no error.
    assert_eq!(replaced[3] & 15, 0);
    assert_eq!(replaced[6..8], [0, 1]);
    assert!(replaced.ends_with(&name("b.x")));
}

#[test]
fn names_of_the_inside_may_lead_there() {
    let rules = format!(
        "dns = {{ private_names = [\"*.corp.example\"] }}\n{}{}",
        allow("git.corp.example"),
        allow("api.example.com")
    );
    let mut bench = Bench::new(&rules);
    let records = [address("git.corp.example", 60, "10.1.2.3")];
    assert_eq!(bench.resolve("git.corp.example", A, &records), FromServer::Deliver);
    assert_eq!(bench.dial("10.1.2.3"), "allow rule");
}

#[test]
fn without_names_in_rules_answers_are_left_alone() {
    let mut bench = Bench::new("");
    bench.policy = Policy::new(&Layer::Unset, &Layer::Unset, Place::default(), 1);
    let records = [address("localtest.example", 60, "127.0.0.1")];
    assert_eq!(bench.resolve("localtest.example", A, &records), FromServer::Deliver);
    // What was not asked may pass too: nothing is learnt from it.
    let odd = answer(9, "other.example", A, &[address("other.example", 60, "203.0.113.1")]);
    assert_eq!(bench.tell(&odd), FromServer::Deliver);
    assert!(bench.observer.names(ip("203.0.113.1"), bench.now).live.is_empty());
}

/// Priority 1, no target, `alpn=h2`, both hints.
fn service(owner: &str) -> Record {
    let mut data = vec![0, 1, 0];
    data.extend([0, 1, 0, 3, 2, b'h', b'2']);
    data.extend([0, 4, 0, 4, 203, 0, 113, 66]);
    data.extend([0, 6, 0, 16]);
    data.extend(address("", 0, "2001:db8::66").data);
    Record { owner: owner.to_owned(), kind: HTTPS, ttl: 60, data }
}

#[test]
fn hints_of_service_bindings_are_taken_out() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let outcome = bench.resolve("api.example.com", HTTPS, &[service("api.example.com")]);
    let replaced = stripped(outcome);
    assert!(replaced.ends_with(&[0, 10, 0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2']), "{replaced:?}");
    assert_eq!(bench.dial("203.0.113.66"), "deny no-name");
    assert_eq!(bench.dial("2001:db8::66"), "deny no-name");
}

#[test]
fn a_bad_service_binding_is_left_out() {
    for cut in 1..service("").data.len() {
        let mut bench = Bench::new(&allow("api.example.com"));
        let mut record = service("api.example.com");
        record.data.truncate(cut);
        let replaced = stripped(bench.resolve("api.example.com", HTTPS, &[record]));
        // Cut between two parameters it is whole.
        let count = replaced[7];
        assert_eq!(count, u8::from([3, 10, 18].contains(&cut)), "{cut}");
        assert!(!replaced.windows(4).any(|four| four == [203, 0, 113, 66]), "{cut}");
    }
}

#[test]
fn edns_survives_without_its_options() {
    let mut bench = Bench::new(&allow("api.example.com"));
    assert_eq!(bench.ask(&query(1, "api.example.com", A)), FromGuest::Forward);
    let bad = record(&address("api.example.com", 60, "10.0.0.1"));
    let opt = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 4, 0, 10, 0, 0];
    let question = question("api.example.com", A);
    let bytes = message(1, 0x81a0, [1, 1, 0, 1], &[&question, &bad, &opt]);
    let replaced = stripped(bench.tell(&bytes));
    assert!(replaced.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]), "{replaced:?}");
    assert_eq!(replaced[4..12], [0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(replaced[2..4], [0x81, 0x80], "no longer authentic");
}

#[test]
fn what_no_longer_fits_says_so() {
    let mut bench = Bench::new(&allow("api.example.com"));
    // Each owner is a name of its own, compressed to two bytes by the server
    // by pointing into the one before: written anew it is far longer.
    let long = format!("{}.example.com", ["a"; 100].join("."));
    let question = question("api.example.com", A);
    let mut body = record(&address("api.example.com", 60, "10.0.0.1"));
    let start = 12 + question.len() + body.len();
    body.extend(record(&alias(&long, "x.y")));
    for step in 1..60_u16 {
        let pointer = 0xc000 | (u16::try_from(start).unwrap() + step * 2);
        body.extend(pointer.to_be_bytes());
        body.extend([0, 5, 0, 1, 0, 0, 0, 60, 0, 3, 1, b'z', 0]);
    }
    let bytes = message(1, 0x8180, [1, 61, 0, 0], &[&question, &body]);
    assert_eq!(bench.ask(&query(1, "api.example.com", A)), FromGuest::Forward);
    let replaced = stripped(bench.tell(&bytes));
    assert_eq!(replaced[2] & 2, 2, "truncated");
    assert_eq!(replaced.len(), 12 + question.len());
}
