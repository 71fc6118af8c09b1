//! The device with and without a network, and with one driver after another.

use sandbox_netstack::listeners::Reported;
use sandbox_netstack::policy::Protocol;

use super::guest::*;
use super::*;

#[test]
fn no_frame_passes_before_the_network_is_configured() {
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
    assert!(matches!(world.ask(Command::Configure(network().into())), Answer::Done));
    world.send(PLAIN, &arp());
    world.turn();
    assert_eq!(world.driver.returned(RX).len(), 1);
}

#[test]
fn a_driver_that_starts_over_finds_nothing_of_the_last() {
    let mut world = World::up();
    let listener = |at: &str| Reported { protocol: Protocol::Tcp, at: at.parse().unwrap() };
    let listeners = vec![listener("10.0.0.2:80"), listener("10.0.0.2:81")];
    world.host().occupied.insert("10.0.0.2:81".parse().unwrap());
    let Answer::Bound(failed) = world.ask(Command::Listen(listeners)) else { panic!() };
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].0.protocol, failed[0].0.at.port()), (Protocol::Tcp, 81));
    let flows = |world: &mut World| match world.ask(Command::Flows) {
        Answer::Flows(flows, _) => flows.into_iter().map(|flow| flow.id).collect::<Vec<_>>(),
        _ => panic!(),
    };
    world.dial();
    let pipe = world.host().pipes[0].clone();
    world.net.end();
    assert!(pipe.borrow().closed);
    assert!(world.net.turn(&mut []).is_ok());
    world.driver = Rigged::with_sizes(&QUEUE_SIZES);
    world.net.begin(0).unwrap();
    assert_eq!(world.host().listening(), ["10.0.0.2:80".parse().unwrap()]);
    assert!(flows(&mut world).is_empty());
    world.dial();
    assert_eq!(flows(&mut world), [2], "numbers are not used twice");
}
