#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use sandbox_devices::net::mock::guest::{GATEWAY, GUEST, MTU, PLAIN, arp};
use sandbox_devices::net::mock::{ALL, BUFFER, LINK, World as Device};
use sandbox_vm_spec::network::{Listener, ListenerRow, Network};

use super::*;

/// A control plane and its device.
struct World {
    device: Device,
    control: Control,
}

impl World {
    /// Without a driver and a network.
    fn bare() -> Self {
        let device = Device::bare();
        let control = Control::new(LINK, device.handle.clone());
        Self { device, control }
    }

    fn up() -> Self {
        let mut world = Self::bare();
        world.device.net.begin(ALL.iter().fold(0, |acked, bit| acked | 1 << bit)).unwrap();
        assert_eq!(world.ask(Request::Configure(Box::new(network()))), Reply::Done);
        world
    }

    fn ask(&mut self, request: Request) -> Reply {
        self.during(|control| control.ask(request))
    }

    fn during<T: Send>(&mut self, work: impl FnOnce(&Control) -> T + Send) -> T {
        let Self { device, control } = self;
        device.during(|| work(control))
    }
}

fn network() -> Network {
    Network {
        guest: vec![GUEST],
        bound: vec![GUEST],
        outside: false,
        mtu: MTU,
        gateway4: GATEWAY,
        gateway6: "fe80::1".parse().unwrap(),
        resolvers: vec![],
        host: vec![],
        cluster: vec![],
        node: PolicySource::Unset,
        pod: PolicySource::Unset,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

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
    world.device.net.begin(0).unwrap();
    assert_eq!(world.device.host().listening().len(), 2);
    world.device.dial();
    assert!(world.device.host().pipes.is_empty(), "the policy denies it");
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
    world.device.net.begin(0).unwrap();
    let asked = Network { pod: text("version = 7"), ..network() };
    assert_eq!(world.ask(Request::Configure(Box::new(asked))), Reply::Done);
    world.device.dial();
    assert!(world.device.host().pipes.is_empty());
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
    world.device.dial();
    let before = flows(&mut world);
    assert_eq!((before.len(), before[0].proto.as_str()), (1, "tcp"));
    let again = Network { pod: text(DENY), resolvers: vec![address("10.0.0.53")], ..network() };
    assert_eq!(world.ask(Request::Configure(Box::new(again.clone()))), Reply::Done);
    assert_eq!(flows(&mut world).len(), 1, "another policy is for new flows");
    let reply = Reply::Policy { generation: 2, node: PolicySource::Unset, pod: text(DENY) };
    assert_eq!(world.ask(Request::Policy), reply);
    assert_eq!(world.ask(Request::Configure(Box::new(again.clone()))), Reply::Done);
    assert_eq!(world.ask(Request::Policy), reply, "nothing to do");
    let pipe = world.device.host().pipes[0].clone();
    let other = Network { guest: vec![address("10.0.0.3")], pod: PolicySource::Unset, ..again };
    assert_eq!(world.ask(Request::Configure(Box::new(other))), Reply::Done);
    assert_eq!(flows(&mut world), []);
    assert!(pipe.borrow().reset);
}

#[test]
fn a_policy_that_is_checked_anew_ends_what_it_denies() {
    let mut world = World::up();
    world.device.dial();
    assert_eq!(world.ask(set(text(DENY), true)), Reply::PolicySet { generation: 2, ended: 1 });
    assert_eq!(flows(&mut world), []);
}

#[test]
fn captures_get_frames_and_are_told_what_they_lost() {
    let mut world = World::up();
    let tap = world.during(|control| control.capture("pod", 60).unwrap());
    world.device.offer(200, BUFFER);
    world.device.send(PLAIN, &arp());
    world.device.turn();
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
    world.during(|control| control.end_capture(&tap));
    world.device.send(PLAIN, &arp());
    world.device.turn();
    assert_eq!(tap.take(Duration::ZERO), (vec![], 0));
}

fn tap_frame(tap: &Tap) {
    tap.frame(Duration::ZERO, sandbox_netstack::pcap::Way::In, &[0; 60], "");
}

#[test]
fn a_policy_explains_its_verdict_on_a_destination() {
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
    world.device.net.begin(0).unwrap();
    assert_eq!(world.ask(set(text(DENY), false)), Reply::PolicySet { generation: 2, ended: 0 });
    assert_eq!(answers(&mut world), (2, vec!["denied".to_owned()]));
    let refused = error(world.ask(explain("nowhere", "tcp")));
    assert!(refused.contains("invalid destination `nowhere`"), "{refused}");
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
    assert_eq!(shown(&mut world)[0], "tcp 0.0.0.0:80 - the guest's network driver is not ready");
    world.device.net.begin(0).unwrap();
    world.device.host().occupied.insert("10.0.0.2:53".parse().unwrap());
    world.ask(Request::Listeners { listeners: vec![] });
    world.ask(Request::Listeners { listeners });
    let rows = shown(&mut world);
    assert_eq!(rows[..2], ["tcp 0.0.0.0:80 10.0.0.2:80 ", "tcp 0.0.0.0:80 127.0.0.1:80 "]);
    assert!(rows[2].starts_with("udp 10.0.0.2:53 10.0.0.2:53 Address"), "{rows:?}");
    assert_eq!(rows[3], "udp 127.0.0.1:53 - UDP at the guest's loopback is not passed on");
    assert_eq!(rows[4], "udp 192.0.2.1:53 - the pod has no such address");
}
