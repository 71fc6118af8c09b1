//! Any text as a policy file. What is taken decides, explains, and survives
//! being written again in both formats.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox_netstack::policy::{
    Direction, Document, Flow, Known, Layer, Names, Place, Policy, Protocol,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let document = match Document::load(text) {
        Ok(loaded) => loaded.document,
        Err(problem) => {
            assert!(!problem.to_string().is_empty());
            return;
        }
    };
    let toml = Document::load(&document.to_toml().unwrap()).unwrap().document;
    assert_eq!(toml, document);
    let json = serde_json::to_string(&document).unwrap();
    assert_eq!(Document::load(&json).unwrap().document, document);

    let layer = Layer::Read(document.into());
    let asked = "api.example.com".parse().unwrap();
    let known = Known { asked, chain: ["cdn.example.net".parse().unwrap()].into() };
    for (node, pod) in [(&layer, &Layer::Unset), (&Layer::Unset, &layer), (&layer, &layer)] {
        let policy = Policy::new(node, pod, Place::default(), 1);
        for peer in
            ["203.0.113.9", "10.0.0.1", "169.254.169.254", "2001:db8::9", "64:ff9b::1.2.3.4"]
        {
            for (direction, protocol, port) in [
                (Direction::Egress, Protocol::Tcp, 443),
                (Direction::Egress, Protocol::Udp, 5432),
                (Direction::Egress, Protocol::Icmp, 0),
                (Direction::Ingress, Protocol::Tcp, 8080),
            ] {
                let flow = Flow { direction, protocol, peer: peer.parse().unwrap(), port };
                let names = Names { live: [known.clone()].into(), has_expired: false };
                let verdict = policy.decide(&flow, &names);
                if direction == Direction::Egress && verdict.is_allow() {
                    policy.may_ask(&Known::plain(known.asked.clone())).unwrap();
                    policy.may_reach(flow.peer, &known).unwrap();
                }
            }
        }
        policy.explain(Protocol::Tcp, &"api.example.com:443".parse().unwrap(), None);
    }
});
