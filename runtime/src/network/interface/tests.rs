#![allow(clippy::unwrap_used)]
use super::super::scan::Address;
use super::*;

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.to_owned(), mac: Some([2, 0, 0, 0, 9, index as u8]), mtu: 1450 }
}

fn address(link: u32, text: &str) -> Address {
    let net: IpNet = text.parse().unwrap();
    Address { link, ip: net.addr(), prefix: net.prefix_len() }
}

/// `10.0.0.0/8 via 10.1.0.1 metric 7`, on link 2 unless it leads nowhere.
fn route(text: &str) -> Route {
    let words: Vec<&str> = text.split(' ').collect();
    let net: IpNet = words[0].parse().unwrap();
    let after = |word| words.iter().position(|w| *w == word).map(|at| words[at + 1]);
    let kind = [
        ("blackhole", RouteKind::Blackhole),
        ("unreachable", RouteKind::Unreachable),
        ("prohibit", RouteKind::Prohibit),
    ];
    let kind = kind.into_iter().find(|(word, _)| words.contains(word)).map(|(_, kind)| kind);
    Route {
        kind: kind.unwrap_or(RouteKind::Unicast),
        destination: net.addr(),
        prefix: net.prefix_len(),
        gateway: after("via").map(|ip| ip.parse().unwrap()),
        source: after("src").map(|ip| ip.parse().unwrap()),
        metric: after("metric").map_or(0, |metric| metric.parse().unwrap()),
        link: kind.is_none().then(|| after("dev").map_or(2, |link| link.parse().unwrap())),
    }
}

fn scan(links: &[(u32, &str)], addresses: &[(u32, &str)], routes: &[&str]) -> Scan {
    Scan {
        links: links.iter().map(|(index, name)| link(*index, name)).collect(),
        addresses: addresses.iter().map(|(link, text)| address(*link, text)).collect(),
        routes: routes.iter().map(|text| route(text)).collect(),
    }
}

/// The routes of an interface on link 2.
fn routes(addresses: &[&str], list: &[&str]) -> (Interface, Vec<String>) {
    let addresses: Vec<(u32, &str)> = addresses.iter().map(|text| (2, *text)).collect();
    let interface = scan(&[(2, "eth0")], &addresses, list).interface().unwrap();
    let told = interface.routes.iter().map(|route| {
        let gateway = route.gateway.map(|ip| format!(" via {ip}")).unwrap_or_default();
        let source = route.source.map(|ip| format!(" src {ip}")).unwrap_or_default();
        let kind = format!("{:?}", route.kind).to_lowercase();
        let kind =
            if route.kind == RouteKind::Unicast { String::new() } else { format!(" {kind}") };
        format!("{}/{}{gateway}{source}{kind}", route.destination, route.prefix)
    });
    let told = told.collect();
    (interface, told)
}

#[test]
fn loopback_alone_is_no_interface() {
    assert_eq!(Scan::default().interface(), None);
    // One without an address is of no use either.
    assert_eq!(scan(&[(2, "eth0")], &[], &["0.0.0.0/0 via 10.0.0.1"]).interface(), None);
}

#[test]
fn the_default_route_picks_among_several() {
    let links = [(2, "eth0"), (3, "net1"), (4, "net2")];
    let addresses = [(2, "10.0.0.2/24"), (3, "10.1.0.2/24"), (4, "10.2.0.2/24")];
    let name = |routes: &[&str]| scan(&links, &addresses, routes).interface().unwrap().name;
    assert_eq!(name(&[]), "eth0");
    assert_eq!(name(&["0.0.0.0/0 via 10.1.0.1 dev 3"]), "net1");
    let both =
        ["0.0.0.0/0 via 10.1.0.1 dev 3 metric 200", "0.0.0.0/0 via 10.2.0.1 dev 4 metric 100"];
    assert_eq!(name(&both), "net2");
    assert_eq!(name(&["::/0 via fe80::1 dev 3", "0.0.0.0/0 via 10.2.0.1 dev 4 metric 9"]), "net2");
}

#[test]
fn a_bridge_networks_routes() {
    let (interface, told) =
        routes(&["10.4.0.7/24", "fd00:4::7/64"], &["0.0.0.0/0 via 10.4.0.1", "::/0 via fe80::9"]);
    assert_eq!(told, ["0.0.0.0/0 via 10.4.0.1", "::/0 via fe80::9"]);
    assert_eq!(interface.gateway4, Ipv4Addr::new(10, 4, 0, 1));
    assert_eq!(interface.gateway6, "fe80::9".parse::<Ipv6Addr>().unwrap());
    assert_eq!((interface.mtu, interface.name.as_str()), (1450, "eth0"));
    assert_eq!(interface.addresses.len(), 2);
}

#[test]
fn a_gateway_outside_of_every_network_is_reached_first() {
    // Calico gives the route of the link itself, others only the flag "onlink".
    let calico = ["0.0.0.0/0 via 169.254.1.1", "169.254.1.1/32"];
    assert_eq!(
        routes(&["192.168.5.7/32"], &calico).1,
        ["169.254.1.1/32", "0.0.0.0/0 via 169.254.1.1"]
    );
    assert_eq!(
        routes(&["192.168.5.7/32"], &calico[..1]).1,
        ["169.254.1.1/32", "0.0.0.0/0 via 169.254.1.1"]
    );
}

#[test]
fn a_network_behind_its_gateway() {
    // The ptp plugin: the agent sees that the address's own network has a route.
    let ptp = ["10.4.0.0/24 via 10.4.0.1 src 10.4.0.7", "10.4.0.1/32", "0.0.0.0/0 via 10.4.0.1"];
    assert_eq!(routes(&["10.4.0.7/24"], &ptp).1, [ptp[1], ptp[0], ptp[2]]);
}

#[test]
fn sources_are_the_guests_and_dead_ends_are_kept() {
    let list = [
        "10.0.0.0/8 via 10.4.0.1 src 10.4.0.7",
        "172.16.0.0/12 via 10.4.0.1 src 10.9.9.9",
        "192.0.2.0/24 blackhole",
        "198.51.100.0/24 prohibit",
        "203.0.113.0/24 unreachable",
        "192.168.0.0/16 via 10.5.0.1 dev 3",
    ];
    let (interface, told) = routes(&["10.4.0.7/24"], &list);
    let expected = [
        "203.0.113.0/24 unreachable",
        "198.51.100.0/24 prohibit",
        "192.0.2.0/24 blackhole",
        "172.16.0.0/12 via 10.4.0.1",
        "10.0.0.0/8 via 10.4.0.1 src 10.4.0.7",
    ];
    let (mut told, mut expected) = (told, expected.map(str::to_owned).to_vec());
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    assert_eq!(interface.gateway4, Ipv4Addr::new(10, 4, 0, 1));
}

#[test]
fn without_a_gateway_a_neighbour_stands_in() {
    let gateway = |address: &str| routes(&[address], &[]).0.gateway4;
    assert_eq!(gateway("10.4.0.7/24"), Ipv4Addr::new(10, 4, 0, 1));
    assert_eq!(gateway("10.4.0.1/24"), Ipv4Addr::new(10, 4, 0, 2));
    assert_eq!(gateway("10.4.0.1/31"), Ipv4Addr::new(10, 4, 0, 0));
    let (interface, told) = routes(&["10.4.0.7/32"], &[]);
    assert_eq!(interface.gateway4, STAND_IN4);
    assert_eq!(told, ["169.254.1.1/32"]);
    let (interface, told) = routes(&["fd00:4::7/64"], &[]);
    assert!(told.is_empty() && interface.gateway6 == STAND_IN6);
}

#[test]
fn routes_without_end_are_bounded() {
    let many: Vec<String> =
        (0..1000).map(|n| format!("10.{}.{}.0/24 via 10.4.0.1", n / 250, n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(routes(&["10.4.0.7/24"], &many).1.len(), MAX_ROUTES);
}
