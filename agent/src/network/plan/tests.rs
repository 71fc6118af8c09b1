#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

pub fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn address(cidr: &str) -> agent::Address {
    let (ip, prefix) = cidr.split_once('/').unwrap();
    agent::Address { ip: bytes(ip), prefix: prefix.parse().unwrap(), ..Default::default() }
}

fn route(destination: &str, gateway: &str) -> agent::Route {
    let gateway = if gateway.is_empty() { Vec::new() } else { bytes(gateway) };
    let destination = Some(address(destination)).into();
    agent::Route { destination, gateway, ..Default::default() }
}

fn request() -> ConfigureNetworkRequest {
    ConfigureNetworkRequest {
        interface: "eth0".into(),
        mac: vec![2, 0, 0, 0, 0, 1],
        gateway_mac: vec![2, 0, 0, 0, 0, 2],
        mtu: 1450,
        addresses: vec![address("10.1.2.3/24"), address("fd00::3/64")],
        routes: vec![
            route("0.0.0.0/0", "169.254.1.1"),
            route("169.254.1.1/32", ""),
            route("::/0", "fe80::1"),
        ],
        ..Default::default()
    }
}

fn error(change: impl FnOnce(&mut ConfigureNetworkRequest)) -> String {
    let mut request = request();
    change(&mut request);
    Plan::new(&request).unwrap_err().to_string()
}

#[test]
fn gateways_come_after_what_leads_to_them() {
    let plan = Plan::new(&request()).unwrap();
    let shown: Vec<String> = plan.items.iter().map(ToString::to_string).collect();
    let expected = [
        "address 10.1.2.3/24",
        "address fd00::3/64",
        "neighbour 169.254.1.1",
        "neighbour fe80::1",
        "route to 169.254.1.1/32",
        "route to 0.0.0.0/0 via 169.254.1.1",
        "route to ::/0 via fe80::1",
    ];
    assert_eq!(shown, expected);
    let link = plan.link.unwrap();
    assert_eq!((link.name.as_str(), link.mtu), ("eth0", Some(1450)));
}

#[test]
fn an_address_of_the_loopback_can_be_on_the_link() {
    let mut request = request();
    request.routes.push(route("127.0.0.11/32", ""));
    let plan = Plan::new(&request).unwrap();
    let ip = "127.0.0.11".parse::<IpAddr>().unwrap();
    assert!(
        plan.items.iter().any(|item| matches!(item, Item::Neighbour { ip: own, .. } if *own == ip))
    );
    assert!(
        plan.items
            .iter()
            .any(|item| matches!(item, Item::Route(route) if route.leads_off_loopback()))
    );
}

#[test]
fn the_route_of_a_network_replaces_the_kernels() {
    let mut given = request();
    given.routes.push(route("10.1.2.0/24", "169.254.1.1"));
    let by_kernel = |request| {
        let plan = Plan::new(request).unwrap();
        let made = plan.items.iter().map(|item| match item {
            Item::Address { prefix_route, .. } => Some(*prefix_route),
            _ => None,
        });
        made.flatten().collect::<Vec<_>>()
    };
    assert_eq!(by_kernel(&given), [false, true]);
    assert_eq!(by_kernel(&request()), [true, true]);
}

#[test]
fn no_interface_is_no_network() {
    assert_eq!(Plan::new(&ConfigureNetworkRequest::default()), Ok(Plan::default()));
    let text = error(|request| request.interface.clear());
    assert_eq!(text, "interface: it has no name, but addresses or routes");
}

#[test]
fn what_cannot_be_is_named() {
    for name in ["lo", "a/b", "..", "eth%d", "eth0:1", "a b", "é", "sixteen-letters0", "all"] {
        let text = error(|request| request.interface = name.into());
        assert!(text.contains(name) && text.starts_with("interface"), "{text}");
    }
    type Change = fn(&mut ConfigureNetworkRequest);
    let cases: [(&str, Change); 20] = [
        ("mac: 5 bytes", |r| r.mac = vec![0; 5]),
        ("mac: it is not", |r| r.mac = vec![255; 6]),
        ("gateway_mac: it is not", |r| r.gateway_mac = vec![0; 6]),
        ("mtu: 67 is not", |r| r.mtu = 67),
        ("mtu: 65536 is not", |r| r.mtu = 65536),
        ("address: 3 bytes", |r| r.addresses[0].ip = vec![1; 3]),
        ("address: 10.1.2.3/33", |r| r.addresses[0].prefix = 33),
        ("address: fd00::3/300", |r| r.addresses[1].prefix = 300),
        ("address 127.0.0.1/8: ", |r| r.addresses[0] = address("127.0.0.1/8")),
        ("address: ::ffff:10.0.0.1 is", |r| r.addresses[0] = address("::ffff:10.0.0.1/128")),
        ("address ff02::1/64: ", |r| r.addresses[0] = address("ff02::1/64")),
        ("route: no destination", |r| r.routes[0].destination = None.into()),
        ("route to 10.0.0.1/8: it has bits", |r| r.routes.push(route("10.0.0.1/8", ""))),
        ("route to ::/0: IPv6 has no", |r| r.routes.push(route("::/0", "10.0.0.1"))),
        ("route to 0.0.0.0/0: its source", |r| r.routes[0].source = bytes("::1")),
        ("route to 0.0.0.0/0: gateway: 2 b", |r| r.routes[0].gateway = vec![1; 2]),
        ("route to 0.0.0.0/0: it drops pa", |r| r.routes[0].kind = RouteKind::PROHIBIT.into()),
        ("route to 127.0.0.0/8: of a loop", |r| r.routes.push(route("127.0.0.0/8", ""))),
        ("route to ::1/128: of a loop", |r| r.routes.push(route("::1/128", ""))),
        ("routes: 4097 are too many", |r| r.routes = vec![r.routes[0].clone(); 4097]),
    ];
    for (start, change) in cases {
        let text = error(change);
        assert!(text.starts_with(start), "{text:?} does not start with {start:?}");
    }
    let text = error(|request| request.hosts = "x".repeat(MAX_FILE + 1));
    assert!(text.starts_with("hosts: 262145 bytes"), "{text}");
    let mut odd = request();
    odd.routes[0].kind = protobuf::EnumOrUnknown::from_i32(77);
    assert!(Plan::new(&odd).unwrap_err().to_string().contains("kind is unknown"));
}

#[test]
fn networks_and_broadcasts() {
    let of = |cidr: &str| super::cidr(&address(cidr)).unwrap();
    for (cidr, network, broadcast) in [
        ("10.1.2.3/24", "10.1.2.0/24", Some("10.1.2.255")),
        ("10.1.2.3/0", "0.0.0.0/0", Some("255.255.255.255")),
        ("10.1.2.3/31", "10.1.2.2/31", None),
        ("10.1.2.3/32", "10.1.2.3/32", None),
        ("fd00::1:2/112", "fd00::1:0/112", None),
        ("fd00::1/0", "::/0", None),
        ("fd00::1/128", "fd00::1/128", None),
    ] {
        assert_eq!(of(cidr).network(), of(network));
        let shown = of(cidr).broadcast().map(|ip| ip.to_string());
        assert_eq!(shown.as_deref(), broadcast, "{cidr}");
    }
}
