//! What a guest cannot use up.

use std::net::SocketAddr;

use smoltcp::time::Duration;

use super::*;
use crate::host::Errno;
use crate::host::mock::Fate;
use crate::policy::Layer;

fn port(port: u16) -> SocketAddr {
    (GUEST.ip(), port).into()
}

/// R59, group 17: a million SYNs into a black hole, while another connection
/// is answered in the very turn that it asks.
#[test]
fn a_flood_into_a_black_hole_delays_nobody() {
    let mut sim = Sim::new();
    let hole: SocketAddr = ([203, 0, 113, 1], 443).into();
    sim.fate(hole, Fate::Silent);
    for n in 0..1_000_000u32 {
        let from = port(u16::try_from(1_024 + n % 60_000).unwrap());
        let ip = Tcp { seq: n, flags: SYN, ..Tcp::default() }.packet(from, hole);
        let checksum = Some(crate::port::Partial { start: 34, offset: 16 });
        sim.packet(&ip, crate::port::Offload { checksum, segments: None });
        if n % 64 == 63 {
            sim.stack.run(&mut sim.port, sim.now);
        }
        if n % 100_000 == 99_999 {
            sim.run();
            sim.now += Duration::from_millis(10);
            let began = sim.now;
            sim.connect(port(u16::try_from(n / 100_000 + 1).unwrap()), SERVER);
            assert!(sim.now - began < Duration::from_millis(50));
        }
    }
    let load = sim.stack.load();
    assert!(load.dialing <= 64 && load.connections <= 64 + 10, "{load:?}");
    assert!(sim.stack.counters().dials_dropped > 900_000);
    sim.pass(Duration::from_secs(31));
    assert_eq!(sim.stack.load().dialing, 0);
}

/// Group 17: many destinations that do not answer; who waits longest makes
/// room for who comes.
#[test]
fn many_black_holes_delay_nobody_for_long() {
    let mut sim = Sim::new();
    for n in 0..2_000u16 {
        let hole: SocketAddr = ([203, 0, 113, u8::try_from(n % 250).unwrap()], n).into();
        let hole = SocketAddr::new(hole.ip(), n + 1);
        sim.fate(hole, Fate::Silent);
        sim.send(GUEST, hole, &Tcp { seq: 1, flags: SYN, ..Tcp::default() });
        if n % 100 == 0 {
            sim.now += Duration::from_millis(100);
        }
    }
    assert_eq!(sim.stack.load().dialing, 512);
    sim.now += Duration::from_secs(1);
    sim.connect(GUEST, SERVER);
}

/// R61, group 18: 4,096 connections, the next is not opened and says so in the
/// counters; all of them carry bytes; what is closed makes room, and nothing
/// is left at the end.
#[test]
fn as_many_connections_as_may_be() {
    let mut sim = Sim::with(&Layer::Unset, 8 << 20);
    for n in 0..4_096u16 {
        sim.connect(port(1_024 + n), SERVER);
    }
    assert!(sim.stack.load().rings <= 8 << 20);
    sim.send(port(60_000), SERVER, &Tcp { seq: 1, flags: SYN, ..Tcp::default() });
    sim.nothing();
    assert_eq!((sim.stack.load().connections, sim.stack.counters().flows_full), (4_096, 1));
    for n in 0..4_096u16 {
        let (from, pipe) = (port(1_024 + n), usize::from(n));
        sim.stack.host().touch(pipe, |pipe| pipe.incoming.extend(n.to_be_bytes()));
        sim.run();
        let got = sim.one();
        assert_eq!((got.to, got.data.as_slice()), (from, n.to_be_bytes().as_slice()));
        sim.send(
            from,
            SERVER,
            &Tcp { seq: 1_001, ack: got.end(), flags: RST | ACK, ..Tcp::default() },
        );
    }
    let load = sim.stack.load();
    assert_eq!((load.connections, load.rings), (0, 0));
    assert!(sim.stack.host().pipes.iter().all(|pipe| pipe.borrow().closed));
    sim.connect(port(60_000), SERVER);
}

/// Group 18: a host without file descriptors is silence, and over when there
/// are some.
#[test]
fn a_host_without_file_descriptors() {
    let mut sim = Sim::new();
    sim.stack.host().exhausted = Some(Errno::MFILE);
    sim.send(GUEST, SERVER, &Tcp { seq: 1_000, flags: SYN, ..Tcp::default() });
    sim.datagram(GUEST, SERVER, b"x");
    sim.nothing();
    assert_eq!(sim.stack.counters().sockets_failed, 2);
    sim.stack.host().exhausted = None;
    sim.connect(GUEST, SERVER);
}

/// R76: what is refused by the gate is counted by its reason.
#[test]
fn refusals_are_counted() {
    let mut sim = Sim::new();
    let foreign: SocketAddr = ([10, 0, 0, 9], 1).into();
    sim.send(foreign, SERVER, &Tcp { flags: SYN, ..Tcp::default() });
    sim.nothing();
    assert_eq!(sim.stack.counters().refused["source address"], 1);
}

/// R58: a guest that asks for replies and takes none is not listened to, and
/// what waits for it is bounded; when it takes them it gets them in order.
#[test]
fn a_guest_that_takes_no_replies() {
    let mut sim = Sim::new();
    sim.port.capacity = 0;
    sim.fate(SERVER, Fate::Failed(Errno::CONNREFUSED));
    for n in 0..10_000u16 {
        let ip = Tcp { seq: 1, flags: SYN, ..Tcp::default() }.packet(port(1_024 + n), SERVER);
        let checksum = Some(crate::port::Partial { start: 34, offset: 16 });
        sim.packet(&ip, crate::port::Offload { checksum, segments: None });
    }
    for _ in 0..1_000 {
        sim.stack.run(&mut sim.port, sim.now);
    }
    let waits = sim.port.from_guest.len();
    assert!(waits > 9_900, "{waits} are left");
    sim.port.capacity = usize::MAX;
    sim.run();
    let resets = sim.segments();
    assert!(resets.iter().map(|got| got.to.port()).eq(1_024..11_024));
    assert!(sim.stack.counts().contains(&("replies.dropped".to_owned(), 0)));
}

/// R47: frames of any bytes, with any offload, break nothing, open nothing and
/// leave nothing behind, while another connection goes on.
#[test]
fn garbage_disturbs_nobody() {
    let mut sim = Sim::new();
    let (mut seq, ack) = sim.connect(GUEST, SERVER);
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    for round in 0..20_000u32 {
        let length = usize::from(byte());
        let mut frame: Vec<u8> = (0..length).map(|_| byte()).collect();
        // Most get further than the addresses.
        if round % 4 != 0 && length > 40 {
            frame[..14].copy_from_slice(&[GATEWAY.0.as_slice(), &MAC.0, &[8, 0]].concat());
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&u16::try_from(length - 14).unwrap().to_be_bytes());
            frame[20..22].fill(0);
            frame[23] = [6, 17, 1][usize::from(byte() % 3)];
            frame[26..30].copy_from_slice(&[10, 0, 0, 2]);
            smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
        }
        let partial = crate::port::Partial { start: u16::from(byte()), offset: u16::from(byte()) };
        let checksum = (byte() % 2 == 0).then_some(partial);
        sim.port.from_guest.push_back((frame, crate::port::Offload { checksum, segments: None }));
        if round % 1_000 == 0 {
            sim.run();
            sim.packets();
            sim.send(GUEST, SERVER, &Tcp { seq, ack, data: b"on", ..Tcp::default() });
            seq += 2;
            sim.stack.assert_consistent();
        }
    }
    sim.run();
    assert_eq!(sim.stack.host().pipes[0].borrow().written, b"on".repeat(20));
    sim.pass(Duration::from_secs(400));
    let load = sim.stack.load();
    assert_eq!((load.dialing, load.ports, load.pings, load.fragments), (0, 0, 0, 0));
}

/// R75: a stricter policy ends the connections that it does not allow, with
/// resets both ways, and leaves the others.
#[test]
fn a_stricter_policy_ends_what_it_does_not_allow() {
    let mut sim = Sim::new();
    sim.connect(port(1), SERVER);
    sim.connect(port(2), ([192, 0, 2, 7], 443).into());
    let policy = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n\
        [[rule]]\nid = \"https\"\ndir = \"egress\"\naction = \"allow\"\nports = [443]\n";
    let ended = sim.replace(policy);
    assert_eq!((ended, sim.stack.load().connections), (1, 1));
    assert_eq!(sim.one().flags & RST, RST);
    assert!(sim.stack.host().pipes[0].borrow().reset);
}
