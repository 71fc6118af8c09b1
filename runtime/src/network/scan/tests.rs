#![allow(clippy::unwrap_used)]
use std::net::Ipv4Addr;
use std::process::Command;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressHeaderFlags;

use super::*;

fn nl_link(flags: LinkFlags, attributes: Vec<LinkAttribute>) -> Option<Link> {
    let mut message = LinkMessage::default();
    message.header.index = 2;
    message.header.flags = flags;
    message.attributes = attributes;
    link(RouteNetlinkMessage::NewLink(message))
}

#[test]
fn links_that_count_are_up_and_no_loopback() {
    let attributes = |mac: Vec<u8>| {
        vec![
            LinkAttribute::IfName("eth0".to_owned()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(mac),
        ]
    };
    let mac = vec![2, 0, 0, 0, 0, 9];
    let up = nl_link(LinkFlags::Up, attributes(mac.clone())).unwrap();
    let expected = Some([2, 0, 0, 0, 0, 9]);
    assert_eq!(up, Link { index: 2, name: "eth0".to_owned(), mac: expected, mtu: 1500 });
    assert_eq!(nl_link(LinkFlags::empty(), attributes(mac.clone())), None);
    assert_eq!(nl_link(LinkFlags::Up | LinkFlags::Loopback, attributes(mac)), None);
    for odd in [vec![], vec![0; 6], vec![1, 0, 0, 0, 0, 9], vec![2; 20]] {
        assert_eq!(nl_link(LinkFlags::Up, attributes(odd)).unwrap().mac, None);
    }
}

#[test]
fn the_address_of_a_point_to_point_link_is_this_ends() {
    let told = |attributes| {
        let mut message = AddressMessage::default();
        message.header.index = 2;
        message.header.prefix_len = 32;
        message.header.flags = AddressHeaderFlags::empty();
        message.attributes = attributes;
        address(RouteNetlinkMessage::NewAddress(message)).map(|address| address.ip)
    };
    let [own, peer] = ["10.0.0.2", "10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let both = vec![AddressAttribute::Address(peer), AddressAttribute::Local(own)];
    assert_eq!(told(both), Some(own));
    assert_eq!(told(vec![AddressAttribute::Address(own)]), Some(own));
    let duplicate =
        vec![AddressAttribute::Address(own), AddressAttribute::Flags(AddressFlags::Dadfailed)];
    assert_eq!(told(duplicate), None);
}

fn nl_route(kind: RouteType, table: u8, attributes: Vec<RouteAttribute>) -> Option<Route> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.kind = kind;
    message.header.table = table;
    message.attributes = attributes;
    route(RouteNetlinkMessage::NewRoute(message))
}

#[test]
fn routes_that_count_are_the_main_tables() {
    let gateway = Ipv4Addr::new(10, 0, 0, 1);
    let via = || vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(2)];
    let main = RouteHeader::RT_TABLE_MAIN;
    let route = nl_route(RouteType::Unicast, main, via()).unwrap();
    assert!(route.is_default() && route.gateway == Some(gateway.into()) && route.link == Some(2));
    assert_eq!(nl_route(RouteType::Unicast, 255, via()), None);
    assert_eq!(nl_route(RouteType::Local, main, via()), None);
    assert_eq!(nl_route(RouteType::Multicast, main, via()), None);
    let dead = nl_route(RouteType::Prohibit, main, vec![RouteAttribute::Oif(1)]).unwrap();
    assert_eq!((dead.kind, dead.link), (RouteKind::Prohibit, None));
    let last = vec![RouteAttribute::Priority(u32::MAX)];
    assert_eq!(nl_route(RouteType::Unreachable, main, last), None);
}

/// Runs commands of ip(8) in a new namespace.
fn namespace(commands: &[&str]) -> Namespace {
    let namespace = Namespace::make().unwrap();
    let ran = namespace.inside(|| {
        for command in commands {
            let done = Command::new("ip").args(command.split(' ')).output().unwrap();
            assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        }
    });
    ran.unwrap();
    namespace
}

#[test]
#[ignore = "needs root"]
fn a_namespace_as_a_cni_leaves_it() {
    let namespace = namespace(&[
        "link add eth0 mtu 1420 address 02:00:00:00:09:09 type veth peer name other",
        "link set eth0 up",
        "link set other up",
        "address add 10.244.1.7/24 dev eth0",
        "address add fd00:4::7/64 dev eth0 nodad",
        "route add default via 10.244.1.1",
        "route add 10.96.0.0/12 via 10.244.1.1 src 10.244.1.7 metric 50",
        "route add blackhole 192.0.2.0/24",
        "route add prohibit 198.51.100.0/24 metric 9",
        "-6 route add default via fe80::1 dev eth0",
        "-6 route add unreachable 2001:db8::/32",
        "route add 203.0.113.0/24 nexthop via 10.244.1.2 nexthop via 10.244.1.3",
    ]);
    let scanned = scan(&namespace).unwrap();
    let interface = scanned.interface().unwrap();
    assert_eq!((interface.name.as_str(), interface.mtu), ("eth0", 1420));
    assert_eq!(interface.mac, Some([2, 0, 0, 0, 9, 9]));
    let own: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["10.244.1.7/24", "fd00:4::7/64"]);
    let mut routes: Vec<String> = interface
        .routes
        .iter()
        .map(|route| {
            let via = route.gateway.map(|ip| ip.to_string()).unwrap_or_default();
            let (to, prefix, metric) = (route.destination, route.prefix, route.metric);
            format!("{:?} {to}/{prefix} {via} {metric}", route.kind)
        })
        .collect();
    routes.sort();
    let expected = [
        "Blackhole 192.0.2.0/24  0",
        "Prohibit 198.51.100.0/24  9",
        "Unicast 0.0.0.0/0 10.244.1.1 0",
        "Unicast 10.96.0.0/12 10.244.1.1 50",
        "Unicast 203.0.113.0/24 10.244.1.2 0",
        "Unicast ::/0 fe80::1 1024",
        "Unreachable 2001:db8::/32  1024",
    ];
    assert_eq!(routes, expected);
    assert_eq!(addresses(&namespace).unwrap().len(), 4, "with two link-local ones");
}
