use super::super::message::Message;
use super::*;

fn read(bytes: &[u8]) -> Result<(), MessageError> {
    Message::read(bytes).map(|_| ())
}

/// A query whose question's name is these bytes.
fn named(name: &[u8]) -> Vec<u8> {
    message(1, 0, [1, 0, 0, 0], &[name, &[0, 1, 0, 1]])
}

#[test]
fn labels_and_names_have_bounds() {
    let label = |size: u8| [vec![size], vec![b'a'; size.into()]].concat();
    let long = [label(63), label(63), label(63)].concat();
    // 253 characters are 255 bytes with the first length and the root.
    assert_eq!(read(&named(&[long.clone(), label(61), vec![0]].concat())), Ok(()));
    let longer = named(&[long, label(62), vec![0]].concat());
    assert_eq!(read(&longer), Err(MessageError::LongName));
    assert_eq!(
        read(&named(&[vec![64], vec![b'a'; 64], vec![0]].concat())),
        Err(MessageError::Name)
    );
}

#[test]
fn pointers_lead_back_or_nowhere() {
    // To itself, forwards, into the header.
    for target in [12, 14, 200, 0, 4] {
        assert_eq!(read(&named(&[0xc0, target])), Err(MessageError::Name), "{target}");
    }
    // Two that point at each other.
    let first = [0xc0, 18];
    let bytes = message(1, 0x8000, [1, 1, 0, 0], &[&first, &[0, 1, 0, 1], &[0xc0, 12]]);
    assert_eq!(read(&bytes), Err(MessageError::Name));
    // The root's question, and a record whose name points at its own start.
    let body: &[&[u8]] = &[&[0, 0, 1, 0, 1], &[1, b'a', 0xc0, 17]];
    assert_eq!(read(&message(1, 0x8000, [1, 1, 0, 0], body)), Err(MessageError::Name));
}

#[test]
fn a_message_is_read_to_its_end_and_not_further() {
    let whole = answer(1, "a.example", A, &[address("a.example", 60, "203.0.113.9")]);
    assert_eq!(read(&whole), Ok(()));
    for end in 0..whole.len() {
        assert!(matches!(read(&whole[..end]), Err(MessageError::Truncated(_))), "{end}");
    }
    let longer = [whole, vec![0]].concat();
    assert_eq!(read(&longer), Err(MessageError::Trailing(1)));
}

#[test]
fn records_are_bounded() {
    let records = vec![address("", 60, "203.0.113.9"); 513];
    assert_eq!(read(&answer(1, "a.example", A, &records)), Err(MessageError::Records(513)));
    assert_eq!(read(&answer(1, "a.example", A, &records[1..])), Ok(()));
}

mod property {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes, nothing panics; and what was learnt was asked.
        #[test]
        fn bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bench = Bench::new(&allow("api.example.com"));
            bench.ask(&query(1, "api.example.com", A));
            bench.ask(&bytes);
            bench.tell(&bytes);
            prop_assert!(bench.observer.bindings().is_empty());
        }

        /// A right answer with some bytes changed.
        #[test]
        fn changed_bytes_do_no_harm(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
        ) {
            let mut bench = Bench::new(&allow("api.example.com"));
            bench.ask(&query(1, "api.example.com", A));
            let records = [
                alias("api.example.com", "b.example.net"),
                address("b.example.net", 60, "10.0.0.9"),
                address("b.example.net", 60, "203.0.113.9"),
            ];
            let mut bytes = answer(1, "api.example.com", A, &records);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let FromServer::Replace(other) = bench.tell(&bytes) {
                prop_assert_eq!(read(&other), Ok(()));
                prop_assert!(other.len() <= bytes.len().max(512));
            }
        }
    }
}
