use super::*;

fn block(outcome: FromGuest) -> Blocked {
    match outcome {
        FromGuest::Block(blocked) => blocked,
        other => panic!("{other:?}"),
    }
}

/// R73
#[test]
fn a_name_that_nothing_allows_is_answered_at_once() {
    let mut bench = Bench::new(&allow("api.example.com"));
    let blocked = block(bench.ask(&query(0x1234, "secret.evil.example", TXT)));
    assert_eq!(blocked.name.as_str(), "secret.evil.example");
    let expected = message(0x1234, 0x8183, [1, 0, 0, 0], &[&question("secret.evil.example", TXT)]);
    assert_eq!(blocked.answer, expected);
    assert_eq!(bench.observer.open(), 0);
    assert_eq!(bench.observer.counters().blocked, 1);
}

#[test]
fn the_answer_may_be_refused() {
    let rules = format!("dns = {{ block_answer = \"refused\" }}\n{}", allow("api.example.com"));
    let mut bench = Bench::new(&rules);
    let blocked = block(bench.ask(&query(1, "evil.example", A)));
    assert_eq!(blocked.answer[3] & 15, 5);
}

#[test]
fn under_deny_all_no_query_leaves() {
    let mut bench = Bench::new("");
    for number in 0..100 {
        let name = format!("chunk{number}.tunnel.example");
        block(bench.ask(&query(number, &name, TXT)));
    }
    assert_eq!(bench.observer.counters().forwarded, 0);
}

#[test]
fn case_and_trailing_dots_make_no_other_name() {
    let mut bench = Bench::new(&allow("API.Example.com."));
    let mixed = query(1, "aPi.ExAmPlE.cOm", A);
    assert_eq!(bench.ask(&mixed), FromGuest::Forward);
    let records = [address("api.example.com", 60, "203.0.113.9")];
    assert_eq!(bench.tell(&answer(1, "aPi.ExAmPlE.cOm", A, &records)), FromServer::Deliver);
    assert_eq!(bench.dial("203.0.113.9"), "allow rule");
}

#[test]
fn international_names_are_asked_in_ascii() {
    let mut bench = Bench::new(&allow("Bücher.example"));
    assert_eq!(bench.ask(&query(1, "xn--bcher-kva.example", A)), FromGuest::Forward);
    block(bench.ask(&query(2, "bcher.example", A)));
}

#[test]
fn a_dot_inside_of_a_label_is_none() {
    let mut bench = Bench::new(&allow("*.example.com"));
    let mut bytes = vec![];
    bytes.extend([15]);
    bytes.extend(b"api.example.com");
    bytes.extend([0, 0, 1, 0, 1]);
    let blocked = block(bench.ask(&message(1, 0x0100, [1, 0, 0, 0], &[&bytes])));
    assert_eq!(blocked.name.as_str(), "api\\046example\\046com");
}

#[test]
fn what_is_no_query_is_dropped_where_names_count() {
    let update = message(1, 0x2800, [1, 0, 0, 0], &[&question("api.example.com", A)]);
    let two = [question("api.example.com", A), question("evil.example", A)].concat();
    let two = message(1, 0x0100, [2, 0, 0, 0], &[&two]);
    let none = message(1, 0x0100, [0, 0, 0, 0], &[]);
    let response = answer(1, "api.example.com", A, &[]);
    let trailing = [query(1, "api.example.com", A), b"smuggled".to_vec()].concat();
    for bad in [update, two, none, response, trailing, vec![], vec![0; 11]] {
        let mut bench = Bench::new(&allow("api.example.com"));
        assert_eq!(bench.ask(&bad), FromGuest::Drop);
        assert_eq!(bench.observer.counters().bad_queries, 1);
    }
}

#[test]
fn questions_that_wait_are_bounded() {
    let mut bench = Bench::new(&allow("api.example.com"));
    for id in 0..u16::try_from(MAX_OPEN).unwrap() {
        assert_eq!(bench.ask(&query(id, "api.example.com", A)), FromGuest::Forward);
    }
    assert_eq!(bench.ask(&query(5000, "api.example.com", A)), FromGuest::Drop);
    assert_eq!(bench.observer.counters().crowded, 1);
    // The same again takes no more room.
    assert_eq!(bench.ask(&query(3, "api.example.com", A)), FromGuest::Forward);
    bench.now += Duration::from_secs(11);
    assert_eq!(bench.ask(&query(5000, "api.example.com", A)), FromGuest::Forward);
    assert_eq!(bench.observer.open(), 1);
    bench.observer.close(CHANNEL);
    assert_eq!(bench.observer.open(), 0);
}

/// Names that only a rule with addresses could allow are asked: what they lead
/// to is not known yet.
#[test]
fn rules_for_addresses_let_names_be_asked() {
    let rules = "[[rule]]\nid = \"db\"\ndir = \"egress\"\naction = \"allow\"\n\
                 cidr = [\"198.51.100.0/24\"]\n";
    let mut bench = Bench::new(rules);
    assert_eq!(bench.ask(&query(1, "db.example.com", A)), FromGuest::Forward);
}

/// A rule that opens the resolver itself opens no tunnel through it.
#[test]
fn a_rule_for_dns_lets_no_other_name_be_asked() {
    let dns = "[[rule]]\nid = \"dns\"\ndir = \"egress\"\naction = \"allow\"\nports = [53]\n\
               cidr = [\"10.96.0.10/32\"]\n";
    let mut bench = Bench::new(&format!("{dns}{}", allow("api.example.com")));
    assert_eq!(bench.ask(&query(1, "api.example.com", A)), FromGuest::Forward);
    block(bench.ask(&query(2, "chunk.tunnel.example", TXT)));
}
