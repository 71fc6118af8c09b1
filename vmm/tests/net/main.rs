//! The network that the `io` process serves, with the test as the engine and
//! the guest, and a namespace with a server in it. Takes root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod engine;
#[path = "../kvm/process.rs"]
mod process;
mod world;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use sandbox_devices::net::mock::guest::{self, GUEST4, PARTIAL, PLAIN, SERVER, segment, tcp};
use sandbox_vm_spec::network::{Listener, PolicySource, Reply, Request};
use smoltcp::wire::TcpControl;
use world::World;

/// CAP_NET_BIND_SERVICE and CAP_NET_RAW.
const LISTENING: u64 = 1 << 10;
const PINGING: u64 = LISTENING | 1 << 13;
/// CAP_SYS_ADMIN.
const ADMIN: u64 = 1 << 21;

#[test]
fn the_process_is_in_the_pods_network_and_may_do_little_there() {
    for (pings, capabilities) in [("1 0", PINGING), ("0 2147483647", LISTENING)] {
        let world = World::new(pings);
        let id = world.io.id();
        let namespace = fs::read_link(format!("/proc/{id}/ns/net")).unwrap();
        assert_eq!(namespace, world.namespace());
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            let line = status.lines().find_map(|line| line.strip_prefix(&format!("{set}:\t")));
            let held = u64::from_str_radix(line.unwrap(), 16).unwrap();
            assert_eq!(held, capabilities, "{set} with pings of {pings}");
        }
    }
}

/// Names of the threads that could change their namespace.
fn movers(world: &World) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", world.io.id())).unwrap();
    let read = |task: &fs::DirEntry, file| fs::read_to_string(task.path().join(file)).unwrap();
    let tasks = tasks.map(Result::unwrap).filter(|task| {
        let status = read(task, "status");
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:\t"));
        u64::from_str_radix(line.unwrap(), 16).unwrap() & ADMIN != 0
    });
    tasks.map(|task| read(&task, "comm").trim().to_owned()).collect()
}

/// The developer network: the process is found in the pod's namespace, and
/// sockets are opened outside of it.
#[test]
fn a_network_outside_of_the_namespace_is_settled_once() {
    let mut world = World::outside("1 0");
    assert_eq!(movers(&world).len(), 1, "the device's thread alone");
    world.configure();
    assert_eq!(movers(&world), Vec::<String>::new());
    let namespace = fs::read_link(format!("/proc/{}/ns/net", world.io.id())).unwrap();
    assert_eq!(namespace, world.namespace());
    let mut engine = world.engine();
    engine.send(PLAIN, &guest::arp());
    assert!(guest::is_arp_reply(&engine.receive().1));
    engine.send(PARTIAL, &tcp(TcpControl::Syn, 1000, None, &[]));
    drop(world.serve());
    // The same again is fine, the other is not.
    world.configure();
    let mut other = world.network();
    other.outside = false;
    let Reply::Failed { error } = world.ask(&Request::Configure(Box::new(other))) else { panic!() };
    assert!(error.contains("cannot change the namespace"), "{error}");
}

#[test]
fn a_connection_of_the_guest_reaches_the_server() {
    let mut world = World::new("1 0");
    world.configure();
    let mut engine = world.engine();
    engine.send(PLAIN, &guest::arp());
    assert!(guest::is_arp_reply(&engine.receive().1));
    engine.send(PARTIAL, &tcp(TcpControl::Syn, 1000, None, &[]));
    let mut served = world.serve();
    let (seq, ack, _) = segment(&engine.receive().1);
    assert_eq!(ack, 1001);
    let payload: Vec<u8> = (0..40_000_u32).map(|i| (i % 251) as u8).collect();
    let header = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0];
    engine.send(header, &tcp(TcpControl::Psh, 1001, Some(seq + 1), &payload));
    let mut came = vec![0; payload.len()];
    served.read_exact(&mut came).unwrap();
    assert!(came == payload);
    served.write_all(b"thank you").unwrap();
    let mut said = Vec::new();
    while said.is_empty() {
        said = segment(&engine.receive().1).2;
    }
    assert_eq!(said, b"thank you");

    let Reply::Flows { flows } = world.ask(&Request::Flows) else { panic!() };
    assert_eq!(flows.len(), 1);
    assert_eq!((flows[0].sent, flows[0].guest.port()), (40_000, 40_000));
    let opened = |world: &mut World| {
        let Reply::Counters { counters } = world.ask(&Request::Counters) else { panic!() };
        counters.into_iter().find(|(name, _)| name == "flows.opened").unwrap().1
    };
    assert_eq!(opened(&mut world), 1);
    // Another thread writes it.
    let mut audit = String::new();
    let began = std::time::Instant::now();
    while !audit.contains(r#""pod":"test","flow":1,"#) || !audit.contains("192.0.2.7:80") {
        assert!(began.elapsed() < engine::PATIENCE, "{audit}");
        audit = fs::read_to_string(world.audit()).unwrap();
    }
}

#[test]
fn a_listener_of_the_guest_is_bound_in_the_namespace_and_reached() {
    let mut world = World::new("1 0");
    world.configure();
    let mut engine = world.engine();
    // So that the driver is there.
    engine.send(PLAIN, &guest::arp());
    engine.receive();
    let listeners = ["10.0.0.2:90", "0.0.0.0:91"].map(|at| Listener::tcp(at.parse().unwrap()));
    let listeners = listeners.to_vec();
    let reply = world.ask(&Request::Listeners { listeners });
    assert_eq!(reply, Reply::Listening { failed: vec![] }, "also below 1024");
    let client = world.dial(GUEST4, 90);
    let (_, frame) = engine.receive();
    assert_eq!(frame[30..34], GUEST4.octets());
    assert_eq!(frame[36..38], 90u16.to_be_bytes());
    assert_eq!(frame[26..30], SERVER.octets(), "the client's own address");
    drop(client);
    // The guest's loopback is for its agent, which is not there: it waits for
    // the guest's socket device.
    let forwarded = world.dial(Ipv4Addr::LOCALHOST, 91);
    let mut known = Vec::new();
    let began = std::time::Instant::now();
    while !known.iter().any(|guest: &String| guest == "127.0.0.1:91") {
        assert!(began.elapsed() < engine::PATIENCE, "{known:?}");
        let Reply::Flows { flows } = world.ask(&Request::Flows) else { panic!() };
        known = flows.iter().map(|flow| flow.guest.to_string()).collect();
    }
    drop(forwarded);
    let reply = world.ask(&Request::Listeners { listeners: vec![] });
    assert_eq!(reply, Reply::Listening { failed: vec![] });
    world.refuses(GUEST4, 90);
}

#[test]
fn a_policy_that_denies_is_heard_of_before_the_engine_comes() {
    let mut world = World::new("1 0");
    world.configure();
    let text = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n";
    let pod = PolicySource::Text(text.into());
    let node = PolicySource::Unset;
    let set = Request::SetPolicy { node: node.clone(), pod: pod.clone(), recheck: false };
    assert_eq!(world.ask(&set), Reply::PolicySet { generation: 2, ended: 0 });
    assert_eq!(world.ask(&Request::Policy), Reply::Policy { generation: 2, node, pod });
    let mut engine = world.engine();
    engine.send(PARTIAL, &tcp(TcpControl::Syn, 1000, None, &[]));
    let (_, reset) = engine.receive();
    assert_eq!(reset[47] & 4, 4, "RST");
}

#[test]
fn captures_go_on_until_the_client_hangs_up() {
    let mut world = World::new("1 0");
    world.configure();
    let mut engine = world.engine();
    let mut capture = world.client();
    sandbox_vm_spec::network::send(&mut capture, &Request::Capture { snap: 100 }).unwrap();
    let head = world::captured(&mut capture);
    assert_eq!(head[..4], 0x0a0d_0d0a_u32.to_le_bytes());
    engine.send(PLAIN, &guest::arp());
    engine.receive();
    let frames = world::captured(&mut capture);
    assert_eq!(frames[..4], 6u32.to_le_bytes(), "a packet");
    drop(capture);
    // Others are served meanwhile and after.
    engine.send(PLAIN, &guest::arp());
    assert!(guest::is_arp_reply(&engine.receive().1));
    assert!(matches!(world.ask(&Request::Names), Reply::Names { .. }));
}

#[test]
fn clients_are_bounded_and_what_they_say_is_too() {
    let mut world = World::new("1 0");
    let mut client = world.client();
    client.write_all(&u32::MAX.to_be_bytes()).unwrap();
    let reply: Reply = sandbox_vm_spec::network::receive(&mut client, 1 << 20).unwrap().unwrap();
    let Reply::Failed { error } = reply else { panic!("{reply:?}") };
    assert!(error.contains("4294967295 bytes"), "{error}");
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "and it is over");
    let idle: Vec<_> = (0..40).map(|_| world.client()).collect();
    let refused = idle.into_iter().filter_map(|mut client| {
        client.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        sandbox_vm_spec::network::receive::<Reply>(&mut client, 1 << 20).ok().flatten()
    });
    assert!(refused.count() >= 20);
    // Those that went away are made room for.
    let mut answered = world.ask(&Request::Policy);
    while matches!(&answered, Reply::Failed { error } if error.contains("clients are connected")) {
        answered = world.ask(&Request::Policy);
    }
    let Reply::Failed { error } = answered else { panic!("{answered:?}") };
    assert!(error.contains("not configured"), "{error}");
}

/// Whether a stream is refused at the other end.
pub fn is_refused(result: std::io::Result<TcpStream>) -> bool {
    result.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}
