//! Any messages of the guest and of a server for the observer of DNS: the
//! input is cut into messages, each with a byte that says whose it is.
#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sandbox_netstack::dns::{Channel, FromGuest, FromServer, MAX_ADDRESSES, MAX_OPEN, Observer};
use sandbox_netstack::policy::{Document, Layer, Place, Policy};

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = r#"
        version = 1
        dns = { private_names = ["*.corp.example"] }
        [[rule]]
        id = "no"
        dir = "egress"
        action = "deny"
        name = ["bad.example.com"]
        [[rule]]
        id = "yes"
        dir = "egress"
        action = "allow"
        name = ["*.example.com", "git.corp.example"]
    "#;
    let document = Document::load(text).unwrap().document;
    Policy::new(&Layer::Unset, &Layer::Read(document.into()), Place::default(), 1)
});

fuzz_target!(|bytes: &[u8]| {
    let server: SocketAddr = "10.96.0.10:53".parse().unwrap();
    let mut observer = Observer::new();
    let mut rest = bytes;
    let mut now = Duration::from_secs(100);
    while let [who, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (message, after) = after.split_at(length);
        rest = after;
        now += Duration::from_secs(u64::from(who >> 2));
        let channel = Channel(u64::from(who >> 1 & 1));
        if who & 1 == 0 {
            if let FromGuest::Block(blocked) =
                observer.from_guest(&POLICY, channel, server, message, now)
            {
                assert!(blocked.answer.len() <= message.len());
            }
        } else if let FromServer::Replace(other) =
            observer.from_server(&POLICY, channel, server, message, now)
        {
            assert!(other.len() <= message.len().max(512));
            // What goes to the guest in its place has nothing left to take out.
            let mut again = Observer::new();
            let asked = again.from_guest(&POLICY, channel, server, &query(&other), now);
            assert_eq!(asked, FromGuest::Forward);
            let told = again.from_server(&POLICY, channel, server, &other, now);
            assert!(matches!(told, FromServer::Deliver | FromServer::Replace(_)), "{told:?}");
            assert_eq!(again.counters().stripped, 0);
        }
        assert!(observer.open() <= MAX_OPEN && observer.bindings().len() <= MAX_ADDRESSES);
    }
    // Nothing was learnt but for names that a rule allows.
    for (address, known, _) in observer.bindings().iter() {
        assert!(POLICY.may_reach(address, known).is_ok(), "{address} {known:?}");
    }
});

/// The query that an answer answers.
fn query(answer: &[u8]) -> Vec<u8> {
    let mut end = 12;
    while answer[end] != 0 {
        end += 1 + usize::from(answer[end]);
    }
    let mut query = answer[..end + 5].to_vec();
    query[2..4].copy_from_slice(&[1, 0]);
    query[6..12].fill(0);
    query
}
