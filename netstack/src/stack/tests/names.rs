//! Names: what DNS over this stack teaches the policy.

use std::net::SocketAddr;

use super::*;

pub const POLICY: &str = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n\
    [[rule]]\nid = \"api\"\ndir = \"egress\"\naction = \"allow\"\nproto = [\"tcp\"]\n\
    ports = [443]\nname = [\"api.example.com\"]\n";

pub fn resolver() -> SocketAddr {
    ([10, 96, 0, 10], 53).into()
}

/// A message with one question of type A.
fn question(id: u16, flags: u16, answers: u16, name: &str) -> Vec<u8> {
    let mut message = Vec::new();
    for word in [id, flags, 1, answers, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// What the server answers to [`ask`].
pub fn answer() -> Vec<u8> {
    let mut answer = question(7, 0x8180, 1, "api.example.com");
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 216, 34]);
    answer
}

pub fn ask(sim: &mut Sim, name: &str) {
    sim.datagram(GUEST, resolver(), &question(7, 0x0100, 0, name));
}

/// R69, R70: an address is reached once its name was asked and answered by the
/// pinned server, and not before; a name that nothing allows is not asked.
#[test]
fn a_name_opens_its_address_once_it_was_asked() {
    let api: SocketAddr = ([93, 184, 216, 34], 443).into();
    let syn = Tcp { seq: 1_000, flags: SYN, ..Tcp::default() };
    let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
    sim.send(GUEST, api, &syn);
    assert_eq!(sim.one().flags, RST | ACK, "before it was asked");

    ask(&mut sim, "evil.example.com");
    assert!(sim.stack.host().messages[0].borrow().sent.is_empty());
    assert_eq!(sim.packets().len(), 1, "refused by an answer");

    ask(&mut sim, "api.example.com");
    sim.stack.host().deliver(0, |socket| {
        assert_eq!(socket.sent.len(), 1);
        let forged: SocketAddr = ([10, 96, 0, 11], 53).into();
        socket.incoming.push_back((forged, answer()));
    });
    sim.run();
    sim.nothing();
    sim.send(GUEST, api, &syn);
    assert_eq!(sim.one().flags, RST | ACK, "taught by somebody else");

    sim.stack.host().deliver(0, |socket| socket.incoming.push_back((resolver(), answer())));
    sim.run();
    assert_eq!(sim.packets().len(), 1);
    sim.connect(GUEST, api);
    sim.send(GUEST, SocketAddr::new(api.ip(), 80), &syn);
    assert_eq!(sim.one().flags, RST | ACK, "another port");
}

/// R73: where names open doors, nobody asks a server past the observer.
#[test]
fn dns_over_tcp_is_refused_where_names_count() {
    let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
    sim.send(GUEST, resolver(), &Tcp { seq: 1_000, flags: SYN, ..Tcp::default() });
    assert_eq!(sim.one().flags, RST | ACK);
    assert_eq!(sim.stack.counters().refused["DNS over TCP"], 1);
}
