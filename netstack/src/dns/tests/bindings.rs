use super::*;
use crate::policy::Known;

fn known(text: &str) -> Known {
    Known::plain(text.parse().unwrap())
}

fn v4(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(0xcb00_0000 + number).into()
}

const NOW: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(100);

#[test]
fn the_address_that_was_not_used_for_longest_makes_room() {
    let mut bindings = Bindings::default();
    let most = u32::try_from(MAX_ADDRESSES).unwrap();
    for number in 0..most {
        assert!(bindings.learn(v4(number), known("a.example"), LATER, NOW));
    }
    bindings.hold(v4(0));
    bindings.names(v4(1), NOW);
    for number in 0..3 {
        assert!(bindings.learn(v4(most + number), known("b.example"), LATER, NOW));
    }
    let mut has_names = |number| !bindings.names(v4(number), NOW).live.is_empty();
    assert!(has_names(0), "a flow holds it");
    assert!(has_names(1), "it was used");
    assert!(!has_names(2) && !has_names(3) && !has_names(4));
    assert!(has_names(5) && has_names(most + 2));
    assert_eq!(bindings.len(), MAX_ADDRESSES);
}

#[test]
fn when_flows_hold_all_nothing_is_learnt() {
    let mut bindings = Bindings::default();
    for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() {
        bindings.learn(v4(number), known("a.example"), LATER, NOW);
        bindings.hold(v4(number));
    }
    assert!(!bindings.learn(ip("203.0.113.9"), known("a.example"), LATER, NOW));
    assert!(bindings.names(ip("203.0.113.9"), NOW).live.is_empty());
    bindings.release(v4(7));
    assert!(bindings.learn(ip("203.0.113.9"), known("a.example"), LATER, NOW));
}

#[test]
fn names_of_an_address_are_bounded() {
    let mut bindings = Bindings::default();
    let address = ip("203.0.113.9");
    for number in 0..MAX_NAMES {
        let expiry = if number == 3 { NOW * 2 } else { LATER };
        assert!(bindings.learn(address, known(&format!("n{number}.example")), expiry, NOW));
    }
    assert!(!bindings.learn(address, known("more.example"), LATER, NOW));
    // One that has expired makes room.
    assert!(bindings.learn(address, known("more.example"), LATER, NOW * 2));
    assert_eq!(bindings.names(address, NOW * 2).live.len(), MAX_NAMES);
}

#[test]
fn a_flow_keeps_names_alive() {
    let mut bindings = Bindings::default();
    let address = ip("203.0.113.9");
    bindings.learn(address, known("a.example"), LATER, NOW);
    bindings.hold(address);
    bindings.hold(address);
    bindings.release(address);
    assert_eq!(bindings.names(address, LATER).live.len(), 1);
    bindings.release(address);
    let names = bindings.names(address, LATER);
    assert!(names.live.is_empty() && names.has_expired);
    // More than were held.
    bindings.release(address);
    assert!(bindings.names(address, LATER).live.is_empty());
}

#[test]
fn a_mapped_address_is_ipv4() {
    let mut bindings = Bindings::default();
    bindings.learn(ip("::ffff:203.0.113.9"), known("a.example"), LATER, NOW);
    assert_eq!(bindings.names(ip("203.0.113.9"), NOW).live.len(), 1);
}

#[test]
fn a_later_answer_does_not_shorten_an_earlier_one() {
    let mut bindings = Bindings::default();
    let address = ip("203.0.113.9");
    bindings.learn(address, known("a.example"), LATER, NOW);
    assert_eq!(bindings.names(address, NOW).live.len(), 1);
    bindings.learn(address, known("a.example"), NOW * 2, NOW);
    assert_eq!(bindings.names(address, NOW * 3).live.len(), 1);
    assert_eq!(bindings.iter().count(), 1);
}

/// Chains of long names under an allowed one cost a bounded amount.
#[test]
fn bytes_of_names_are_bounded() {
    let mut bindings = Bindings::default();
    let label = "a".repeat(60);
    for number in 0..MAX_ADDRESSES {
        let long =
            |n: usize| format!("{label}.{label}.{label}.h{number}-{n}.example").parse().unwrap();
        let chain = (0..16).map(long).collect();
        let address = v4(u32::try_from(number).unwrap());
        let asked = long(99);
        assert!(bindings.learn(address, Known { asked, chain }, LATER, NOW));
        assert!(bindings.bytes() <= MAX_BYTES);
        assert!(!bindings.names(address, NOW).live.is_empty());
    }
    assert!(bindings.len() > 500 && bindings.len() < 2000, "{}", bindings.len());
    let sum: usize = bindings.iter().count();
    assert_eq!(sum, bindings.len());
    // What a flow holds does not go, and nothing is learnt past the bound.
    for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() {
        bindings.hold(v4(number));
    }
    while bindings.learn(
        ip("203.0.113.250"),
        known(&format!("n{}.example", bindings.bytes())),
        LATER,
        NOW,
    ) && bindings.names(ip("203.0.113.250"), NOW).live.len() < MAX_NAMES
    {}
    assert!(bindings.bytes() <= MAX_BYTES);
}
