#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn at(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

/// Group 17: one destination that does not answer leaves room for others,
/// and costs no attempts of theirs.
#[test]
fn attempts_are_bounded_by_place_number_and_rate() {
    let mut dials = Dials::default();
    let now = Instant::from_millis(1);
    for _ in 0..MOST_EACH {
        dials.begin(at(1), now).unwrap();
    }
    for _ in 0..1_000_000 {
        assert_eq!(dials.begin(at(1), now), Err(TooMany::There));
    }
    dials.begin(at(2), now).unwrap();
    dials.end(at(2), true);
    for n in 0..MOST - MOST_EACH {
        dials.begin(at(3 + u16::try_from(n).unwrap()), now).unwrap();
    }
    assert_eq!(dials.begin(at(2), now), Err(TooMany::Everywhere));
    dials.end(at(3), false);
    dials.begin(at(2), now).unwrap();
    dials.end(at(1), false);
    assert_eq!(dials.each.len(), MOST - MOST_EACH + 1);
}

#[test]
fn the_rate_counts_what_nobody_answers() {
    let mut dials = Dials::default();
    let now = Instant::from_millis(1);
    for _ in 0..10 * RATE {
        dials.begin(at(1), now).unwrap();
        dials.end(at(1), true);
    }
    for _ in 0..RATE {
        dials.begin(at(1), now).unwrap();
        dials.end(at(1), false);
    }
    assert_eq!(dials.begin(at(1), now), Err(TooMany::Rate));
    dials.begin(at(1), now + Duration::from_millis(1)).unwrap();
    assert_eq!(dials.begin(at(1), now + Duration::from_millis(1)), Err(TooMany::Rate));
}
