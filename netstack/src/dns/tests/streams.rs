use super::*;

struct Connection {
    bench: Bench,
    stream: Stream,
}

impl Connection {
    fn new(rules: &str) -> Self {
        Self { bench: Bench::new(rules), stream: Stream::default() }
    }

    fn ask(&mut self, bytes: &[u8]) -> Passed {
        let Bench { observer, policy, now } = &mut self.bench;
        self.stream.from_guest(bytes, |message| {
            observer.from_guest(policy, CHANNEL, server(), message, *now)
        })
    }

    fn tell(&mut self, bytes: &[u8]) -> Passed {
        let Bench { observer, policy, now } = &mut self.bench;
        self.stream.from_server(bytes, |message| {
            observer.from_server(policy, CHANNEL, server(), message, *now)
        })
    }
}

#[test]
fn messages_are_passed_on_when_they_are_whole() {
    let query = framed(&query(1, "api.example.com", A));
    let answer =
        framed(&answer(1, "api.example.com", A, &[address("api.example.com", 60, "203.0.113.9")]));
    for piece in [1, 2, 3, 7, 1000] {
        let mut connection = Connection::new(&allow("api.example.com"));
        let mut sent = vec![];
        for bytes in query.chunks(piece) {
            assert!(sent.is_empty());
            sent = connection.ask(bytes).to_server;
        }
        assert_eq!(sent, query);
        let mut got = vec![];
        for bytes in answer.chunks(piece) {
            assert_eq!(connection.bench.dial("203.0.113.9"), "deny no-name");
            got = connection.tell(bytes).to_guest;
        }
        assert_eq!(got, answer);
        assert_eq!(connection.bench.dial("203.0.113.9"), "allow rule");
        assert_eq!(connection.stream.pending(), 0);
    }
}

#[test]
fn many_are_asked_at_once_and_answered_in_any_order() {
    let mut connection = Connection::new(&allow("*.example.com"));
    let queries: Vec<u8> =
        (0..5).flat_map(|n| framed(&query(n, &format!("h{n}.example.com"), A))).collect();
    assert_eq!(connection.ask(&queries).to_server, queries);
    for n in [3, 0, 4, 1, 2] {
        let name = format!("h{n}.example.com");
        let records = [address(&name, 60, &format!("203.0.113.{n}"))];
        let answer = framed(&answer(n, &name, A, &records));
        assert_eq!(connection.tell(&answer).to_guest, answer);
        assert_eq!(connection.bench.dial(&format!("203.0.113.{n}")), "allow rule");
    }
}

#[test]
fn a_blocked_query_is_answered_between_the_others() {
    let mut connection = Connection::new(&allow("api.example.com"));
    let good = framed(&query(1, "api.example.com", A));
    let bad = framed(&query(2, "evil.example", A));
    let passed = connection.ask(&[good.clone(), bad, good.clone()].concat());
    assert_eq!(passed.to_server, [good.clone(), good].concat());
    assert_eq!(passed.blocked.len(), 1);
    assert_eq!(passed.to_guest, framed(&passed.blocked[0].answer));
}

#[test]
fn answers_lose_what_may_not_be_reached() {
    let mut connection = Connection::new(&allow("api.example.com"));
    connection.ask(&framed(&query(1, "api.example.com", A)));
    let records = [address("api.example.com", 60, "10.0.0.1")];
    let passed = connection.tell(&framed(&answer(1, "api.example.com", A, &records)));
    let length = usize::from(passed.to_guest[1]);
    assert_eq!(passed.to_guest.len(), length + 2);
    assert_eq!(passed.to_guest[8..10], [0, 0], "no answer is left");
}

#[test]
fn what_waits_is_one_message_at_most() {
    let mut connection = Connection::new(&allow("api.example.com"));
    connection.ask(&[0xff, 0xff]);
    for _ in 0..100 {
        connection.ask(&[0; 10_000]);
        assert!(connection.stream.pending() <= 2 + MAX_MESSAGE);
    }
    // Empty messages cost nothing and are dropped.
    let mut connection = Connection::new(&allow("api.example.com"));
    assert_eq!(connection.ask(&[0; 10_000]), Passed::default());
    assert_eq!(connection.stream.pending(), 0);
}

mod property {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the stream is cut, the same comes out.
        #[test]
        fn cuts_make_no_difference(
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(29), any::<u8>()], 0..600),
            cuts in prop::collection::vec(1_usize..50, 1..50),
        ) {
            let good = framed(&query(1, "api.example.com", A));
            let bytes = [good.clone(), bytes, good].concat();
            let mut whole = Connection::new(&allow("api.example.com"));
            let expected = whole.ask(&bytes);
            let mut pieces = Connection::new(&allow("api.example.com"));
            let mut to_server = vec![];
            let mut to_guest = vec![];
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                let passed = pieces.ask(now);
                to_server.extend(passed.to_server);
                to_guest.extend(passed.to_guest);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(to_server, expected.to_server);
            prop_assert_eq!(to_guest, expected.to_guest);
            prop_assert_eq!(pieces.stream.pending(), whole.stream.pending());
        }
    }
}
