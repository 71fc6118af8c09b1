//! UDP and ICMP echo.

use std::net::{IpAddr, SocketAddr};

use smoltcp::time::Duration;
use smoltcp::wire::IpProtocol;

use super::*;
use crate::checksum;
use crate::emit::{ip_header, write_ip};
use crate::host::{Errno, Notice, Origin};
use crate::icmp;
use crate::packet::Packet;
use crate::port::Offload;

const DENY: &str = "version = 1\ndefaults = { egress = \"allow\", ingress = \"deny\" }";

/// Ports, payload and checksum of the datagrams that the guest got.
fn datagrams(sim: &mut Sim) -> Vec<(SocketAddr, Vec<u8>)> {
    let packets = sim.packets();
    packets
        .into_iter()
        .map(|(ip, _)| {
            let packet = Packet::parse(&ip).unwrap();
            let udp = packet.payload(&ip);
            let pseudo =
                checksum::pseudo(packet.source, packet.destination, IpProtocol::Udp, udp.len());
            assert_eq!(checksum::sum(udp, pseudo), 0xffff);
            let from = u16::from_be_bytes([udp[0], udp[1]]);
            (SocketAddr::new(packet.source, from), udp[8..].to_vec())
        })
        .collect()
}

/// R62, group 19: a datagram goes out, its answer comes back, and who was not
/// written to is a stranger.
#[test]
fn there_and_back() {
    for (guest, server) in [(GUEST, SERVER), (GUEST6, SERVER6)] {
        let mut sim = Sim::under(DENY);
        sim.datagram(guest, server, b"ask");
        sim.nothing();
        let stranger = SocketAddr::new(server.ip(), 81);
        sim.stack.host().deliver(0, |socket| {
            assert_eq!(socket.sent[0].1, b"ask");
            assert_eq!((socket.sent[0].0, socket.port), (server, guest.port()));
            socket.incoming.push_back((stranger, b"psst".to_vec()));
            socket.incoming.push_back((server, b"answer".to_vec()));
        });
        sim.run();
        assert_eq!(datagrams(&mut sim), [(server, b"answer".to_vec())]);
        assert_eq!(sim.stack.counters().strangers, 1);
        sim.datagram(guest, SocketAddr::new(server.ip(), 82), b"other");
        assert_eq!((sim.stack.load().ports, sim.stack.host().messages.len()), (1, 1));
    }
}

/// The packet of which the guest got the parts, none of them too large.
fn whole(sim: &mut Sim) -> Vec<u8> {
    let mut fragments = crate::fragments::Fragments::default();
    let mut whole = None;
    for (ip, _) in sim.packets() {
        assert!(ip.len() <= 1500);
        let packet = Packet::parse(&ip).unwrap();
        let part = packet.fragment.unwrap();
        assert!(whole.is_none());
        whole = fragments.take(&packet, part, packet.payload(&ip), sim.now);
    }
    whole.unwrap()
}

/// R62, group 19: as large as can be each way; larger than the link's MTU
/// comes in parts.
#[test]
fn the_largest_datagram() {
    for (guest, server, size) in [(GUEST, SERVER, 65_507u32), (GUEST6, SERVER6, 65_527)] {
        let mut sim = Sim::new();
        let large: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[0]).collect();
        let mut ip = vec![0; ip_header(guest.ip()) + 8];
        ip.extend(&large);
        crate::emit::write_udp(&mut ip, guest, server);
        let mut parts = crate::outbox::Outbox::new(MAC, GATEWAY);
        parts.large(&mut sim.port, &ip, 1_500);
        for (frame, offload) in std::mem::take(&mut sim.port.to_guest) {
            sim.packet(&frame[14..], offload);
        }
        sim.run();
        sim.stack.host().deliver(0, |socket| {
            assert!(socket.sent[0].1 == large);
            socket.incoming.push_back((server, large.clone()));
        });
        sim.run();
        let whole = whole(&mut sim);
        let packet = Packet::parse(&whole).unwrap();
        let udp = packet.payload(&whole);
        assert!(udp[8..] == large);
        let pseudo = checksum::pseudo(server.ip(), guest.ip(), IpProtocol::Udp, udp.len());
        assert_eq!(checksum::sum(udp, pseudo), 0xffff);
    }
}

/// Group 19: what is reported about a datagram reaches the guest as ICMP, with
/// its own header quoted.
#[test]
fn reported_errors_reach_the_guest() {
    let rows = [(GUEST, SERVER, (3, 3)), (GUEST6, SERVER6, (1, 4))];
    for (guest, server, (kind, code)) in rows {
        let mut sim = Sim::new();
        sim.datagram(guest, server, b"ask");
        let notice = |to, origin, errno| Notice { to, from: None, origin, errno, mtu: 1_300 };
        sim.stack.host().deliver(0, |socket| {
            let refused = notice(server, Origin::Icmp(kind, code), Errno::CONNREFUSED);
            socket.notices.push_back(refused);
            let other = SocketAddr::new(server.ip(), 9);
            socket.notices.push_back(notice(other, Origin::Icmp(kind, code), Errno::CONNREFUSED));
        });
        sim.run();
        let packets = sim.packets();
        assert_eq!(packets.len(), 1, "about somebody it has not written to");
        let packet = Packet::parse(&packets[0].0).unwrap();
        let message = packet.payload(&packets[0].0);
        assert_eq!((message[0], message[1]), (kind, code));
        let quoted = Packet::parse(&message[8..]).unwrap();
        assert_eq!((quoted.source, quoted.destination), (guest.ip(), server.ip()));
        let ports = &message[8 + quoted.header..][..4];
        assert_eq!(ports, [guest.port().to_be_bytes(), server.port().to_be_bytes()].concat());
    }
}

/// Group 19: too big for the path is told with the path's MTU.
#[test]
fn too_big_for_the_path() {
    for (guest, server, kind) in [(GUEST, SERVER, (3, 4)), (GUEST6, SERVER6, (2, 0))] {
        let mut sim = Sim::new();
        sim.datagram(guest, server, b"first");
        sim.stack.host().deliver(0, |socket| {
            socket.failing = Some(Errno::MSGSIZE);
            let (origin, errno) = (Origin::Local, Errno::MSGSIZE);
            socket.notices.push_back(Notice { to: server, from: None, origin, errno, mtu: 1_300 });
        });
        sim.packets();
        sim.run();
        assert_eq!(icmp(&mut sim), kind, "reported");
        sim.datagram(guest, server, &[0; 1_400]);
        assert_eq!(icmp(&mut sim), kind, "at once");
    }
}

/// R62, group 19: ports are given up when idle: soon without an answer, later
/// with one.
#[test]
fn idle_ports_are_closed() {
    let rows = [(80, false, 120), (80, true, 180), (53, true, 10)];
    for (port, answered, seconds) in rows {
        let mut sim = Sim::new();
        let server = SocketAddr::new(SERVER.ip(), port);
        sim.datagram(GUEST, server, b"ask");
        if answered {
            let answer = (server, b"answer".to_vec());
            sim.stack.host().deliver(0, |socket| socket.incoming.push_back(answer));
            sim.run();
        }
        sim.pass(Duration::from_secs(seconds - 1));
        assert_eq!(sim.stack.load().ports, 1, "port {port}, {answered}");
        sim.pass(Duration::from_secs(11));
        assert_eq!(sim.stack.load().ports, 0, "port {port}, {answered}");
        assert!(sim.stack.host().messages[0].borrow().closed);
    }
}

/// Group 18, 19: ports are bounded; who was used longest ago makes room.
#[test]
fn ports_are_bounded() {
    let mut sim = Sim::new();
    for n in 0..3_000u16 {
        sim.now += Duration::from_millis(1);
        sim.datagram(SocketAddr::new(GUEST.ip(), 1 + n), SERVER, b"x");
        assert!(sim.stack.load().ports <= 1_024);
    }
    let closed = sim.stack.host().messages.iter().filter(|socket| socket.borrow().closed).count();
    assert_eq!(closed, 3_000 - 1_024);
}

/// Group 18: a guest that asks everybody keeps the port that was answered.
#[test]
fn who_was_answered_makes_room_last() {
    let mut sim = Sim::new();
    sim.datagram(GUEST, SERVER, b"ask");
    let answer = (SERVER, b"answer".to_vec());
    sim.stack.host().deliver(0, |socket| socket.incoming.push_back(answer));
    sim.run();
    for n in 0..2_000u16 {
        sim.now += Duration::from_millis(1);
        sim.datagram(SocketAddr::new(GUEST.ip(), 1 + n), SERVER, b"x");
    }
    assert!(!sim.stack.host().messages[0].borrow().closed);
    assert!(sim.stack.host().messages[1].borrow().closed);
}

/// RFC 6946, 4: a part that is the whole is taken as such, although another of
/// its number waits; nor does discovery hide behind it (RFC 6980).
#[test]
fn a_part_that_is_the_whole() {
    let mut sim = Sim::new();
    let mut udp = vec![0; 48];
    udp.extend(b"ask");
    crate::emit::write_udp(&mut udp, GUEST6, SERVER6);
    let part = |next: IpProtocol, more: u8, payload: &[u8]| {
        let mut ip = vec![0; 40];
        let (from, to) = (GUEST6.ip(), SERVER6.ip());
        write_ip(&mut ip, from, to, IpProtocol::Ipv6Frag, 8 + payload.len());
        ip.extend([next.into(), 0, 0, more, 0, 0, 0, 7]);
        ip.extend(payload);
        ip
    };
    sim.packet(&part(IpProtocol::Udp, 1, &[1; 16]), Offload::default());
    sim.packet(&part(IpProtocol::Udp, 0, &udp[40..]), Offload::default());
    let padded = [&[17, 0, 1, 4, 0, 0, 0, 0], &udp[40..]].concat();
    sim.packet(&part(IpProtocol::Ipv6Opts, 0, &padded), Offload::default());
    sim.run();
    let sent = sim.stack.host().messages[0].borrow().sent.len();
    assert_eq!((sent, sim.stack.load().fragments), (2, 16));

    let mut solicitation = vec![135, 0, 0, 0, 0, 0, 0, 0];
    let IpAddr::V6(target) = SERVER6.ip() else { panic!() };
    solicitation.extend(target.octets());
    let count = |sim: &Sim| sim.stack.counters().refused.values().sum::<u64>();
    let refused = count(&sim);
    for options in [&[][..], &[58, 0, 1, 4, 0, 0, 0, 0]] {
        let next = if options.is_empty() { IpProtocol::Icmpv6 } else { IpProtocol::Ipv6Opts };
        let hidden = [options, &solicitation].concat();
        sim.packet(&part(next, 0, &hidden), Offload::default());
        sim.run();
        sim.nothing();
    }
    assert_eq!(count(&sim), refused + 2);
}

/// R63: a datagram in parts is one datagram; a wrong checksum is none.
#[test]
fn parts_and_checksums() {
    let mut sim = Sim::new();
    let mut ip = vec![0; 28];
    ip.extend([7; 4_000]);
    crate::emit::write_udp(&mut ip, GUEST, SERVER);
    for (offset, end) in [(2_960, 4_008), (0, 1_480), (1_480, 2_960)] {
        let mut part = vec![0; 20];
        write_ip(&mut part, GUEST.ip(), SERVER.ip(), IpProtocol::Udp, end - offset);
        {
            let mut header = smoltcp::wire::Ipv4Packet::new_unchecked(&mut part);
            header.set_dont_frag(false);
            header.set_more_frags(end != 4_008);
            header.set_frag_offset(u16::try_from(offset).unwrap());
            header.fill_checksum();
        }
        part.extend(&ip[20 + offset..20 + end]);
        sim.packet(&part, Offload::default());
    }
    ip[30] ^= 1;
    sim.packet(&ip, Offload::default());
    sim.run();
    let socket = sim.stack.host().messages[0].borrow();
    assert_eq!(socket.sent.len(), 1);
    assert_eq!((socket.sent[0].1.len(), socket.sent[0].2), (4_000, false));
}

/// R66: a datagram that the policy refuses is told so, and many are not told.
#[test]
fn the_policy_refuses() {
    let policy = DENY.replace("egress = \"allow\"", "egress = \"deny\"");
    let mut sim = Sim::under(&policy);
    sim.datagram(GUEST, SERVER, b"x");
    assert_eq!(icmp(&mut sim), (3, 13));
    sim.datagram(GUEST6, SERVER6, b"x");
    assert_eq!(icmp(&mut sim), (1, 1));
    sim.datagram(GUEST, ([224, 0, 0, 251], 5_353).into(), b"x");
    sim.datagram(GUEST, ([255, 255, 255, 255], 67).into(), b"x");
    sim.nothing();
    assert!(sim.stack.host().messages.is_empty());
}

/// R63, R66: the policy is asked about the whole packet: parts of one that it
/// refuses open nothing, nor do parts that never make a whole.
#[test]
fn the_policy_is_asked_about_the_whole() {
    let policy = DENY.replace("egress = \"allow\"", "egress = \"deny\"");
    let mut sim = Sim::under(&policy);
    let mut ip = vec![0; 28];
    ip.extend([7; 3_000]);
    crate::emit::write_udp(&mut ip, GUEST, SERVER);
    let mut parts = crate::outbox::Outbox::new(MAC, GATEWAY);
    parts.large(&mut sim.port, &ip, 1_500);
    let frames: Vec<_> = sim.port.to_guest.drain(..).collect();
    for (number, (frame, offload)) in frames.iter().enumerate() {
        sim.nothing();
        assert_eq!(sim.stack.counters().denied, 0, "part {number}");
        sim.packet(&frame[14..], *offload);
        sim.run();
    }
    assert_eq!(icmp(&mut sim), (3, 13));
    assert_eq!(sim.stack.counters().denied, 1);
    sim.packet(&frames[1].0[14..], frames[1].1);
    sim.pass(Duration::from_secs(10));
    sim.nothing();
    assert!(sim.stack.host().messages.is_empty());
}

fn ping(sim: &mut Sim, guest: SocketAddr, server: SocketAddr, id: u16, data: &[u8]) {
    let kind = if guest.is_ipv4() { 8 } else { 128 };
    let [high, low] = id.to_be_bytes();
    let ip = icmp::message(guest.ip(), server.ip(), kind, 0, [high, low, 0, 3], data);
    sim.packet(&ip, Offload::default());
    sim.run();
}

/// R65, group 20: a ping and its answer, with the guest's identifier.
#[test]
fn pings() {
    for (guest, server, kind) in [(GUEST, SERVER, 0), (GUEST6, SERVER6, 129)] {
        let mut sim = Sim::under(DENY);
        ping(&mut sim, guest, server, 0xabcd, b"data");
        sim.nothing();
        sim.stack.host().echo(0, |echo| {
            assert_eq!(echo.sent, [(server.ip(), 3, b"data".to_vec(), 64)]);
            echo.incoming.push_back((GUEST.ip(), 3, b"stranger".to_vec()));
            echo.incoming.push_back((server.ip(), 3, b"data".to_vec()));
        });
        sim.run();
        let packets = sim.packets();
        assert_eq!(packets.len(), 1);
        let packet = Packet::parse(&packets[0].0).unwrap();
        let message = packet.payload(&packets[0].0);
        assert_eq!(
            (message[0], &message[4..]),
            (kind, [&[0xab, 0xcd, 0, 3], b"data".as_slice()].concat().as_slice())
        );
        // RFC 5508, REQ-2.
        sim.pass(Duration::from_secs(59));
        assert_eq!(sim.stack.load().pings, 1);
        sim.pass(Duration::from_secs(61));
        assert_eq!(sim.stack.load().pings, 0);
    }
}

/// Group 20: a router's word on a ping reaches the guest (traceroute), and
/// identifiers are bounded.
#[test]
fn errors_of_pings_and_their_number() {
    let mut sim = Sim::new();
    let router = [192, 0, 2, 254].into();
    ping(&mut sim, GUEST, SERVER, 7, b"data");
    sim.stack.host().echo(0, |echo| {
        let notice = Notice {
            to: SERVER,
            from: Some(router),
            origin: Origin::Icmp(11, 0),
            errno: Errno::HOSTUNREACH,
            mtu: 0,
        };
        echo.notices.push_back((notice, 3));
    });
    sim.run();
    let packets = sim.packets();
    let packet = Packet::parse(&packets[0].0).unwrap();
    let message = packet.payload(&packets[0].0);
    assert_eq!((packet.source, message[0], message[1]), (router, 11, 0));
    assert_eq!(message[8 + ip_header(GUEST.ip())..][..8], [8, 0, 0, 0, 0, 7, 0, 3]);
    for id in 0..1_000 {
        sim.now += Duration::from_millis(1);
        ping(&mut sim, GUEST, SERVER, id, b"");
    }
    assert_eq!(sim.stack.load().pings, 64);
}

/// Group 20: a ping larger than the link's MTU, in parts both ways.
#[test]
fn a_large_ping() {
    for (guest, server) in BOTH {
        let mut sim = Sim::new();
        let data: Vec<u8> = (0..4_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let (kind, reply) = if guest.is_ipv4() { (8, 0) } else { (128, 129) };
        let request = icmp::message(guest.ip(), server.ip(), kind, 0, [0, 9, 0, 3], &data);
        let mut parts = crate::outbox::Outbox::new(MAC, GATEWAY);
        parts.large(&mut sim.port, &request, 1_500);
        for (frame, offload) in std::mem::take(&mut sim.port.to_guest) {
            sim.packet(&frame[14..], offload);
        }
        sim.run();
        sim.stack.host().echo(0, |echo| {
            assert!(echo.sent[0].2 == data);
            echo.incoming.push_back((server.ip(), 3, data.clone()));
        });
        sim.run();
        let whole = whole(&mut sim);
        let packet = Packet::parse(&whole).unwrap();
        let message = packet.payload(&whole);
        assert_eq!((message[0], &message[4..8]), (reply, &[0, 9, 0, 3][..]));
        assert!(message[8..] == data);
    }
}

/// Group 20: the same identifier for two destinations, and two identifiers for
/// one, are different pings.
#[test]
fn identifiers_do_not_collide() {
    let mut sim = Sim::new();
    let other: SocketAddr = ([192, 0, 2, 2], 0).into();
    ping(&mut sim, GUEST, SERVER, 7, b"one");
    ping(&mut sim, GUEST, other, 7, b"two");
    ping(&mut sim, GUEST, SERVER, 8, b"three");
    ping(&mut sim, GUEST, SERVER, 7, b"four");
    assert_eq!(sim.stack.load().pings, 3);
    for (socket, from, id) in [(0, SERVER, 7), (1, other, 7), (2, SERVER, 8)] {
        let reply = (from.ip(), 3, vec![id]);
        sim.stack.host().echo(socket, |echo| echo.incoming.push_back(reply));
        sim.run();
        let packets = sim.packets();
        let packet = Packet::parse(&packets[0].0).unwrap();
        assert_eq!((packet.source, packet.payload(&packets[0].0)[5]), (from.ip(), id));
    }
}

/// R62, group 19: a stranger is let in where a rule for the way in says so, and
/// the guest's answer needs no other.
#[test]
fn a_rule_lets_strangers_in() {
    let policy = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n\
        [[rule]]\nid = \"in\"\ndir = \"ingress\"\naction = \"allow\"\nproto = [\"udp\"]\n\
        ports = [40000]\n[[rule]]\nid = \"out\"\ndir = \"egress\"\naction = \"allow\"\n\
        cidr = [\"192.0.2.1/32\"]\n";
    let mut sim = Sim::under(policy);
    sim.datagram(GUEST, SERVER, b"open");
    let stranger: SocketAddr = ([203, 0, 113, 7], 5_000).into();
    let call = (stranger, b"call".to_vec());
    sim.stack.host().deliver(0, |socket| socket.incoming.push_back(call));
    sim.run();
    assert_eq!(datagrams(&mut sim), [(stranger, b"call".to_vec())]);
    sim.datagram(GUEST, stranger, b"answer");
    assert_eq!(sim.stack.host().messages[0].borrow().sent[1].0, stranger);
    sim.datagram((GUEST.ip(), 40_001).into(), stranger, b"unasked");
    assert_eq!(icmp(&mut sim), (3, 13));
}

/// R65: addresses are given by the agent; who asks a DHCP server gets no
/// answer, from nobody.
#[test]
fn dhcp_is_not_answered() {
    let mut sim = Sim::new();
    sim.datagram((GUEST.ip(), 68).into(), ([255, 255, 255, 255], 67).into(), &[1; 300]);
    sim.datagram(GUEST6, "[ff02::1:2]:547".parse().unwrap(), &[1; 100]);
    sim.nothing();
    assert!(sim.stack.host().messages.is_empty());
}

/// R76: what is neither TCP, UDP nor a ping is told that nobody speaks it.
#[test]
fn other_protocols() {
    let mut sim = Sim::new();
    let mut ip = vec![0; 28];
    write_ip(&mut ip, GUEST.ip(), SERVER.ip(), IpProtocol::from(132), 8);
    sim.packet(&ip, Offload::default());
    sim.run();
    assert_eq!(icmp(&mut sim), (3, 2));
    assert_eq!(sim.stack.counters().refused["protocol"], 1);
}
