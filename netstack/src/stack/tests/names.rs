//! Names: what DNS over this stack teaches the policy.

use std::net::SocketAddr;

use smoltcp::time::Duration;

use super::*;
use crate::listing::OutlookRow;
use crate::policy::{Answer, Protocol};

pub const POLICY: &str = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n\
    [[rule]]\nid = \"api\"\ndir = \"egress\"\naction = \"allow\"\nproto = [\"tcp\"]\n\
    ports = [443]\nname = [\"api.example.com\"]\n";

const OPEN: &str = "version = 1\ndefaults = { egress = \"allow\", ingress = \"deny\" }";

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

/// Docker's own resolver has an address of the loopback: it is asked in the
/// pod's namespace where the pod was given it, for names alone, and nobody else
/// there is.
#[test]
fn a_resolver_on_the_pods_loopback() {
    let embedded = SocketAddr::new(crate::policy::EMBEDDED_RESOLVER, 53);
    let mut sim = Sim::watched(OPEN, &[embedded.ip()]);
    sim.datagram(GUEST, embedded, &question(7, 0x0100, 0, "a.test"));
    sim.nothing();
    let reply = question(7, 0x8180, 0, "a.test");
    sim.stack.host().deliver(0, |socket| {
        assert_eq!(socket.sent[0].0, embedded);
        socket.incoming.push_back((embedded, reply));
    });
    sim.run();
    let (ip, _) = sim.packets().pop().unwrap();
    assert_eq!(crate::packet::Packet::parse(&ip).unwrap().source, embedded.ip());
    sim.connect(GUEST, embedded);

    let other = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
    for to in [other("127.0.0.11", 54), other("127.0.0.1", 53), other("127.0.0.12", 53)] {
        sim.send(GUEST, to, &Tcp { seq: 1, flags: SYN, ..Tcp::default() });
        assert_eq!(sim.one().flags & RST, RST, "{to}");
    }
    let mut sim = Sim::watched(OPEN, &[resolver().ip()]);
    sim.send(GUEST, embedded, &Tcp { seq: 1, flags: SYN, ..Tcp::default() });
    assert_eq!(sim.one().flags & RST, RST);
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

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// R73: messages of one connection pass the observer,
/// however the stream is cut and in whatever order the server answers; a name
/// that nothing allows is answered between the others and goes no further.
#[test]
fn dns_over_tcp_passes_the_observer() {
    let api: SocketAddr = ([93, 184, 216, 34], 443).into();
    let syn = Tcp { seq: 1_000, flags: SYN, ..Tcp::default() };
    for piece in [1, 3, 50, 1_000] {
        let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
        let (mut seq, mut ack) = sim.connect(GUEST, resolver());
        let other = framed(&question(8, 0x0100, 0, "api.example.com"));
        let evil = framed(&question(9, 0x0100, 0, "evil.example.com"));
        let api_query = framed(&question(7, 0x0100, 0, "api.example.com"));
        let mut got = Vec::new();
        for data in [&*api_query, &*evil, &*other].concat().chunks(piece) {
            sim.send(GUEST, resolver(), &Tcp { seq, ack, data, ..Tcp::default() });
            seq += u32::try_from(data.len()).unwrap();
            for segment in sim.segments() {
                got.extend(&segment.data);
                ack = segment.end();
            }
        }
        assert_eq!(sim.stack.host().pipes[0].borrow().written, [api_query, other].concat());
        assert_eq!((got[2..4].to_vec(), got[5] & 15), (9_u16.to_be_bytes().to_vec(), 3));
        assert_eq!(usize::from(got[1]), got.len() - 2, "NXDOMAIN and nothing else");

        let answers = [framed(&question(8, 0x8180, 0, "api.example.com")), framed(&answer())];
        let answers = answers.concat();
        let (first, last) = answers.split_at(answers.len() - 1);
        sim.stack.host().touch(0, |pipe| pipe.incoming.extend(first));
        sim.run();
        let segments = sim.segments();
        ack = segments.last().unwrap().end();
        let mut got: Vec<u8> = segments.into_iter().flat_map(|segment| segment.data).collect();
        sim.send(GUEST, resolver(), &Tcp { seq, ack, ..Tcp::default() });
        let early = SocketAddr::new(GUEST.ip(), 41_000);
        sim.send(early, api, &syn);
        assert_eq!(sim.one().flags, RST | ACK, "half an answer teaches nothing");

        sim.stack.host().touch(0, |pipe| pipe.incoming.extend(last));
        sim.run();
        got.extend(sim.one().data);
        assert_eq!(got, answers);
        sim.connect(early, api);
        let blocked = sim.audit().into_iter().find(|line| line["verdict"] == "block").unwrap();
        assert_eq!(
            (&blocked["proto"], &blocked["names"][0]),
            (&"tcp".into(), &"evil.example.com".into())
        );
    }
}

/// R57, R73: either end of a connection for DNS ends as any other does: what
/// was whole goes on, half a message does not.
#[test]
fn dns_over_tcp_ends() {
    let query = framed(&question(7, 0x0100, 0, "api.example.com"));
    let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
    let (seq, ack) = sim.connect(GUEST, resolver());
    let data = [&*query, b"\0\x20half"].concat();
    sim.send(GUEST, resolver(), &Tcp { seq, ack, flags: ACK | FIN, data: &data, ..Tcp::default() });
    sim.packets();
    {
        let pipe = sim.stack.host().pipes[0].borrow();
        assert_eq!((&pipe.written, pipe.finished), (&query, true));
    }
    sim.stack.host().touch(0, |pipe| {
        pipe.incoming.extend(framed(&answer()));
        pipe.ended = true;
    });
    sim.run();
    let last = sim.one();
    assert_eq!((last.data.clone(), last.flags & FIN), (framed(&answer()), FIN));
    let seq = seq + u32::try_from(data.len()).unwrap() + 1;
    sim.send(GUEST, resolver(), &Tcp { seq, ack: last.end(), ..Tcp::default() });
    assert_eq!(sim.stack.load().connections, 0);
    assert!(!sim.stack.host().pipes[0].borrow().reset);

    let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
    let (seq, ack) = sim.connect(GUEST, resolver());
    sim.stack.host().touch(0, |pipe| {
        pipe.incoming.extend(b"\0\x20half");
        pipe.failed = Some(crate::host::Errno::CONNRESET);
    });
    sim.run();
    assert_eq!(sim.segments().pop().unwrap().flags & RST, RST);
    assert_eq!((sim.stack.load().connections, seq, ack), (0, 1_001, ack));
}

/// R73: a server that does not read stops the guest, a guest that does not
/// read stops itself, and neither costs more than what a connection may.
#[test]
fn dns_over_tcp_is_bounded() {
    for name in ["api.example.com", "evil.example.com"] {
        let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
        let (first, ack) = sim.connect(GUEST, resolver());
        sim.stack.host().touch(0, |pipe| pipe.room = 0);
        let query = framed(&question(7, 0x0100, 0, name));
        let data = query.repeat(30);
        let (mut seq, mut edge) = (first, first.wrapping_add(65_535));
        // The guest acknowledges nothing that it is answered.
        while edge.wrapping_sub(seq) >= u32::try_from(data.len()).unwrap() {
            assert!(seq.wrapping_sub(first) < 2_000_000, "{name}: it goes on and on");
            sim.send(
                GUEST,
                resolver(),
                &Tcp { seq, ack, window: 0, data: &data, ..Tcp::default() },
            );
            seq = seq.wrapping_add(u32::try_from(data.len()).unwrap());
            if let Some(last) = sim.segments().pop() {
                edge = last.ack.wrapping_add(u32::from(last.window) << 2);
            }
        }
    }
}

/// What is told of a destination is what a packet to it would meet: an address
/// is known by the names that led there, and a name by where it led.
#[test]
fn what_is_told_of_a_destination_is_what_was_learnt() {
    let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
    let outlook = |sim: &mut Sim, to: &str, at: Option<&str>| {
        let at = at.map(|ip| ip.parse().unwrap());
        let rows = sim.stack.outlook(Protocol::Tcp, &to.parse().unwrap(), at, sim.now);
        let row = |row: OutlookRow| (row.address.map(|ip| ip.to_string()), row.told);
        rows.into_iter().map(row).collect::<Vec<_>>()
    };
    let of = |sim: &mut Sim, to: &str| {
        let rows = outlook(sim, to, None);
        assert_eq!(rows.len(), 1, "{rows:?}");
        (rows[0].0.clone(), rows[0].1.answer, rows[0].1.reason.clone())
    };
    let there = Some("93.184.216.34".to_owned());
    let no = |reason: &str| (there.clone(), Answer::Denied, reason.to_owned());
    assert_eq!(of(&mut sim, "93.184.216.34:443"), no("no-name"));
    assert_eq!(of(&mut sim, "api.example.com:443"), (None, Answer::Allowed, "rule".to_owned()));

    ask(&mut sim, "api.example.com");
    sim.stack.host().deliver(0, |socket| socket.incoming.push_back((resolver(), answer())));
    sim.run();
    let yes = (there.clone(), Answer::Allowed, "rule".to_owned());
    for to in ["93.184.216.34:443", "api.example.com:443"] {
        assert_eq!(of(&mut sim, to), yes, "{to}");
    }
    assert_eq!(of(&mut sim, "api.example.com:80"), no("default"));
    let rows = outlook(&mut sim, "api.example.com:443", Some("10.0.0.1"));
    assert_eq!(rows[0].1.reason, "rebinding");
    let rows = outlook(&mut sim, "evil.example.com:443", None);
    assert!(rows[0].1.text.contains("not even looked up"), "{rows:?}");
    assert!(sim.stack.host().pipes.is_empty(), "something was dialled");

    // Its 60 seconds and the grace after them.
    sim.now += Duration::from_secs(60 + 301);
    for to in ["93.184.216.34:443", "api.example.com:443"] {
        assert_eq!(of(&mut sim, to), no("expired"), "{to}");
    }
}
