//! What the device is told from outside, with a driver and without.

use sandbox_vm_spec::network::{Listener, ListenerRow, Transport};
use smoltcp::wire::TcpControl;

use super::guest::*;
use super::*;

const DENY: &str = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n";

fn text(text: &str) -> PolicySource {
    PolicySource::Text(text.to_owned())
}

fn set(pod: PolicySource, recheck: bool) -> Request {
    Request::SetPolicy { node: PolicySource::Unset, pod, recheck }
}

fn listener(at: &str) -> Listener {
    Listener::tcp(at.parse().unwrap())
}

fn error(reply: Reply) -> String {
    match reply {
        Reply::Failed { error } => error,
        other => panic!("{other:?} and not a failure"),
    }
}

fn flows(world: &mut World) -> Vec<sandbox_vm_spec::network::FlowRow> {
    match world.ask(Request::Flows) {
        Reply::Flows { flows } => flows,
        other => panic!("{other:?}"),
    }
}

/// A connection of the guest that is under way.
fn dial(world: &mut World) {
    world.offer(8, BUFFER);
    world.send(PARTIAL, &tcp(TcpControl::Syn, 1000, None, &[]));
    world.turn();
    world.turn();
}

#[test]
fn no_frame_passes_before_the_network_is_told() {
    let mut world = World::bare();
    world.net.begin(0).unwrap();
    world.offer(1, BUFFER);
    for _ in 0..300 {
        world.send(PLAIN, &arp());
    }
    assert!(world.turn().has(TX));
    assert_eq!(world.driver.returned(TX).len(), DISCARDED);
    assert!(world.is_awake());
    world.turn();
    assert_eq!(world.driver.returned(TX).len(), 300 - DISCARDED);
    assert_eq!(world.driver.returned(RX), []);
    assert_eq!(world.count("link.unconfigured"), 300);
    assert_eq!(world.ask(Request::Configure(Box::new(network()))), Reply::Done);
    world.send(PLAIN, &arp());
    world.turn();
    assert_eq!(world.driver.returned(RX).len(), 1);
}

#[test]
fn everything_is_answered_without_a_driver() {
    let mut world = World::bare();
    assert!(error(world.ask(Request::Policy)).contains("not configured"));
    assert!(error(world.ask(set(PolicySource::Unset, false))).contains("not configured"));
    let listeners = vec![listener("0.0.0.0:80")];
    let listen = Request::Listeners { listeners };
    assert!(error(world.ask(listen.clone())).contains("not configured"));
    assert_eq!(world.ask(Request::Configure(Box::new(network()))), Reply::Done);
    assert_eq!(world.ask(listen), Reply::Listening { failed: vec![] });
    assert_eq!(world.ask(set(text(DENY), true)), Reply::PolicySet { generation: 2, ended: 0 });
    assert_eq!(world.ask(Request::Flows), Reply::Flows { flows: vec![] });
    assert_eq!(world.ask(Request::Names), Reply::Names { names: vec![] });
    assert!(matches!(world.ask(Request::Counters), Reply::Counters { .. }));
    // What was told is in force when the driver comes.
    world.net.begin(0).unwrap();
    assert_eq!(world.host().listening().len(), 2);
    dial(&mut world);
    assert!(world.host().pipes.is_empty(), "the policy denies it");
    let reply = Reply::Policy { generation: 2, node: PolicySource::Unset, pod: text(DENY) };
    assert_eq!(world.ask(Request::Policy), reply);
}

#[test]
fn a_broken_policy_closes_at_first_and_changes_nothing_later() {
    let mut world = World::up();
    assert_eq!(world.ask(set(text(DENY), false)), Reply::PolicySet { generation: 2, ended: 0 });
    let refused = error(world.ask(set(text("version = 7"), false)));
    assert!(refused.contains("the pod's policy is not put in force"), "{refused}");
    let broken = set(PolicySource::Broken("cannot be read".into()), false);
    assert!(error(world.ask(broken)).contains("cannot be read"));
    let reply = Reply::Policy { generation: 2, node: PolicySource::Unset, pod: text(DENY) };
    assert_eq!(world.ask(Request::Policy), reply);

    let mut world = World::bare();
    world.net.begin(0).unwrap();
    let asked = Network { pod: text("version = 7"), ..network() };
    assert_eq!(world.ask(Request::Configure(Box::new(asked))), Reply::Done);
    dial(&mut world);
    assert!(world.host().pipes.is_empty());
    let Reply::Policy { pod: PolicySource::Broken(reason), .. } = world.ask(Request::Policy) else {
        panic!("it is broken")
    };
    assert!(reason.contains("version"), "{reason}");
}

#[test]
fn a_network_that_cannot_be_is_refused() {
    let mut world = World::bare();
    let mtu = Network { mtu: 9000, ..network() };
    assert!(error(world.ask(Request::Configure(Box::new(mtu)))).contains("MTU of 9000"));
    let cluster = Network { cluster: vec!["10.0.0.1/8".into()], ..network() };
    assert!(error(world.ask(Request::Configure(Box::new(cluster)))).contains("10.0.0.1/8"));
    let listeners = vec![listener("0.0.0.0:80"); 257];
    let refused = error(world.ask(Request::Listeners { listeners }));
    assert!(refused.contains("257 listeners"), "{refused}");
    assert!(error(world.ask(Request::Policy)).contains("not configured"));
}

#[test]
fn the_same_network_again_leaves_flows_open_and_another_ends_them() {
    let mut world = World::up();
    dial(&mut world);
    let before = flows(&mut world);
    assert_eq!((before.len(), before[0].proto.as_str()), (1, "tcp"));
    let again = Network { pod: text(DENY), resolvers: vec![address("10.0.0.53")], ..network() };
    assert_eq!(world.ask(Request::Configure(Box::new(again.clone()))), Reply::Done);
    assert_eq!(flows(&mut world).len(), 1, "another policy is for new flows");
    let reply = Reply::Policy { generation: 2, node: PolicySource::Unset, pod: text(DENY) };
    assert_eq!(world.ask(Request::Policy), reply);
    assert_eq!(world.ask(Request::Configure(Box::new(again.clone()))), Reply::Done);
    assert_eq!(world.ask(Request::Policy), reply, "nothing to do");
    let pipe = world.host().pipes[0].clone();
    let other = Network { guest: vec![address("10.0.0.3")], pod: PolicySource::Unset, ..again };
    assert_eq!(world.ask(Request::Configure(Box::new(other))), Reply::Done);
    assert_eq!(flows(&mut world), []);
    assert!(pipe.borrow().reset);
}

#[test]
fn a_policy_that_is_checked_anew_ends_what_it_denies() {
    let mut world = World::up();
    dial(&mut world);
    assert_eq!(world.ask(set(text(DENY), true)), Reply::PolicySet { generation: 2, ended: 1 });
    assert_eq!(flows(&mut world), []);
}

#[test]
fn a_driver_that_starts_over_finds_nothing_of_the_last() {
    let mut world = World::up();
    let listeners = vec![listener("10.0.0.2:80"), listener("10.0.0.2:81")];
    world.host().occupied.insert("10.0.0.2:81".parse().unwrap());
    let Reply::Listening { failed } = world.ask(Request::Listeners { listeners }) else { panic!() };
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].0, failed[0].1), (Transport::Tcp, "10.0.0.2:81".parse().unwrap()));
    assert!(!failed[0].2.is_empty());
    dial(&mut world);
    let pipe = world.host().pipes[0].clone();
    world.net.end();
    assert!(pipe.borrow().closed);
    assert!(world.net.turn(&mut []).is_ok());
    world.driver = Rigged::with_sizes(&QUEUE_SIZES);
    world.net.begin(0).unwrap();
    assert_eq!(world.host().listening(), ["10.0.0.2:80".parse().unwrap()]);
    assert_eq!(flows(&mut world), []);
    dial(&mut world);
    assert_eq!(flows(&mut world)[0].id, 2, "numbers are not used twice");
}

#[test]
fn captures_get_frames_and_are_told_what_they_lost() {
    let mut world = World::up();
    let handle = world.handle.clone();
    let opening = thread::spawn(move || handle.capture("pod", 60).unwrap());
    while !opening.is_finished() {
        world.turn();
    }
    let tap = opening.join().unwrap();
    world.offer(200, BUFFER);
    world.send(PLAIN, &arp());
    world.turn();
    let (bytes, lost) = tap.take(Duration::from_secs(20));
    assert_eq!(lost, 0);
    assert_eq!(bytes[..4], 0x0a0d_0d0a_u32.to_le_bytes());
    for frame in [arp(), arp()] {
        // Padding is not sent with Ethernet's shortest frame here.
        assert!(bytes.windows(20).any(|bytes| *bytes == frame[12..32]));
    }
    assert_eq!(tap.take(Duration::ZERO), (vec![], 0), "nothing comes twice");
    // A client that does not take anything.
    for _ in 0..20_000 {
        tap_frame(&tap);
    }
    let (bytes, lost) = tap.take(Duration::ZERO);
    assert!(lost > 0 && bytes.len() <= 1 << 20, "{lost} lost, {} bytes", bytes.len());
    let handle = world.handle.clone();
    let closing = thread::spawn(move || {
        handle.end_capture(&tap);
        tap
    });
    while !closing.is_finished() {
        world.turn();
    }
    let tap = closing.join().unwrap();
    world.send(PLAIN, &arp());
    world.turn();
    assert_eq!(tap.take(Duration::ZERO), (vec![], 0));
}

fn tap_frame(tap: &Tap) {
    tap.frame(Duration::ZERO, sandbox_netstack::pcap::Way::In, &[0; 60], "");
}

#[test]
fn what_the_policy_in_force_says_of_a_destination() {
    let explain = |destination: &str, protocol: &str| Request::Explain {
        protocol: protocol.to_owned(),
        destination: destination.to_owned(),
        at: None,
    };
    let mut world = World::bare();
    assert!(error(world.ask(explain("192.0.2.1:80", "tcp"))).contains("not configured"));
    assert_eq!(world.ask(Request::Configure(Box::new(network()))), Reply::Done);
    let answers = |world: &mut World| match world.ask(explain("192.0.2.1:80", "tcp")) {
        Reply::Explained { generation, outlook } => {
            (generation, outlook.into_iter().map(|row| row.answer).collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(answers(&mut world), (1, vec!["allowed".to_owned()]), "without a driver");
    world.net.begin(0).unwrap();
    assert_eq!(world.ask(set(text(DENY), false)), Reply::PolicySet { generation: 2, ended: 0 });
    assert_eq!(answers(&mut world), (2, vec!["denied".to_owned()]));
    let refused = error(world.ask(explain("nowhere", "tcp")));
    assert!(refused.contains("`nowhere` is no destination"), "{refused}");
    let refused = error(world.ask(explain("192.0.2.1:80", "sctp")));
    assert!(refused.contains("none of tcp, udp and icmp"), "{refused}");
}

#[test]
fn listeners_are_shown_with_where_they_are_bound_and_why_not() {
    let shown = |world: &mut World| {
        let Reply::Listeners { listeners } = world.ask(Request::Listening) else { panic!() };
        let row = |row: ListenerRow| {
            let at = row.at.map_or("-".to_owned(), |at| at.to_string());
            format!("{} {} {at} {}", row.proto, row.guest, row.error.unwrap_or_default())
        };
        listeners.into_iter().map(row).collect::<Vec<_>>()
    };
    let mut world = World::bare();
    assert_eq!(shown(&mut world), [""; 0]);
    assert_eq!(world.ask(Request::Configure(Box::new(network()))), Reply::Done);
    let udp = |at: &str| Listener::udp(at.parse().unwrap());
    let listeners =
        vec![listener("0.0.0.0:80"), udp("10.0.0.2:53"), udp("127.0.0.1:53"), udp("192.0.2.1:53")];
    world.ask(Request::Listeners { listeners: listeners.clone() });
    assert_eq!(shown(&mut world)[0], "tcp 0.0.0.0:80 - the guest's network driver is not there");
    world.net.begin(0).unwrap();
    world.host().occupied.insert("10.0.0.2:53".parse().unwrap());
    world.ask(Request::Listeners { listeners: vec![] });
    world.ask(Request::Listeners { listeners });
    let rows = shown(&mut world);
    assert_eq!(rows[..2], ["tcp 0.0.0.0:80 10.0.0.2:80 ", "tcp 0.0.0.0:80 127.0.0.1:80 "]);
    assert!(rows[2].starts_with("udp 10.0.0.2:53 10.0.0.2:53 Address"), "{rows:?}");
    assert_eq!(rows[3], "udp 127.0.0.1:53 - UDP at the guest's loopback is not passed on");
    assert_eq!(rows[4], "udp 192.0.2.1:53 - the pod has no such address");
}
