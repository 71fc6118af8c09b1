//! ConfigureNetwork, with a network device that leads nowhere.

use sandbox_agent_protocol::agent::{Address, ConfigureNetworkRequest, Route, RouteKind};
use serde_json::json;
use std::net::IpAddr;
use ttrpc::Code;

use crate::protocol::code;
use crate::vm::{Vm, ctx, spec};
use crate::{Case, case};

pub const CASES: &[Case] = &[case!(network::configured)];

fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn address(cidr: &str) -> Address {
    let (ip, prefix) = cidr.split_once('/').unwrap();
    Address { ip: bytes(ip), prefix: prefix.parse().unwrap(), ..Default::default() }
}

fn route(destination: &str, gateway: &str) -> Route {
    let gateway = if gateway.is_empty() { Vec::new() } else { bytes(gateway) };
    Route { destination: Some(address(destination)).into(), gateway, ..Default::default() }
}

fn of_kind(destination: &str, kind: RouteKind) -> Route {
    Route { kind: kind.into(), ..route(destination, "") }
}

fn request(addresses: &[&str], routes: Vec<Route>) -> ConfigureNetworkRequest {
    ConfigureNetworkRequest {
        interface: "eth7".into(),
        mac: vec![2, 0, 0, 0, 0, 1],
        gateway_mac: vec![2, 0, 0, 0, 0, 2],
        mtu: 1400,
        addresses: addresses.iter().map(|cidr| address(cidr)).collect(),
        routes,
        resolv_conf: "nameserver 10.9.0.10\n".into(),
        hosts: "10.1.2.3\tguest-host\n".into(),
        ..Default::default()
    }
}

/// What the guest has, as `ip` and the kernel's files show it: a line for each.
async fn seen(vm: &Vm, id: &str) -> Vec<String> {
    let script = "
        for at in /sys/class/net/eth*; do
            test -e $at && echo link ${at##*/} $(cat $at/address $at/mtu $at/flags)
        done
        ip -o addr show | grep ': eth' | sed 's/^[0-9]*: /addr /'
        ip -4 route show | sed 's/^/route4 /'
        ip -6 route show | sed 's/^/route6 /'
        ip neigh show | sed 's/^/neigh /; s/ used [0-9/]* probes [0-9]*//'
        for name in accept_ra autoconf accept_dad addr_gen_mode; do
            at=/proc/sys/net/ipv6/conf/eth7/$name
            test -e $at && echo sysctl $name $(cat $at)
        done
        etc=/proc/1/root/$(readlink /proc/1/root/etc)
        sed 's/^/resolv /' $etc/resolv.conf
        sed 's/^/hosts /' $etc/hosts";
    let mut spec = spec(id, &["sh", "-c", script]);
    // Sees the guest's own files.
    spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "uts"}]);
    for set in ["bounding", "effective", "permitted"] {
        let caps = spec["process"]["capabilities"][set].as_array_mut().unwrap();
        caps.push("CAP_SYS_PTRACE".into());
    }
    let outcome = vm.run(id, &spec).await;
    assert_eq!(outcome.errors(), "");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    outcome.text().lines().map(words).collect()
}

fn of<'a>(seen: &'a [String], kind: &str) -> Vec<&'a str> {
    let prefix = format!("{kind} ");
    let mut lines: Vec<&str> = seen.iter().filter_map(|line| line.strip_prefix(&prefix)).collect();
    lines.sort_unstable();
    lines
}

pub async fn configured(vm: &Vm) {
    let rootfs = vm.rootfs("network");
    std::os::unix::fs::symlink("busybox", rootfs.join("bin/sed")).unwrap();
    vm.agent.configure_network(ctx(), &ConfigureNetworkRequest::default()).await.unwrap();
    assert_eq!(of(&seen(vm, "network").await, "link"), [""; 0], "a guest without a network");
    first(vm).await;
    refused(vm).await;
    replaced(vm).await;
    switched_off(vm).await;
}

async fn first(vm: &Vm) {
    let routes = vec![
        route("0.0.0.0/0", "169.254.1.1"),
        route("169.254.1.1/32", ""),
        Route { source: bytes("10.1.2.3"), metric: 7, ..route("10.8.0.0/16", "169.254.1.1") },
        of_kind("192.0.2.0/24", RouteKind::BLACKHOLE),
        of_kind("198.51.100.0/24", RouteKind::PROHIBIT),
        // Its gateway is on the link though no address says so.
        route("203.0.113.0/24", "10.77.0.1"),
        route("::/0", "fe80::1"),
        of_kind("2001:db8:dead::/48", RouteKind::UNREACHABLE),
    ];
    let request = request(&["10.1.2.3/32", "fd00::3/64"], routes);
    for _ in 0..2 {
        vm.agent.configure_network(ctx(), &request).await.unwrap();
        let seen = seen(vm, "network").await;
        assert_eq!(of(&seen, "link"), ["eth7 02:00:00:00:00:01 1400 0x1003"]);
        let addresses = of(&seen, "addr");
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        assert!(addresses[0].starts_with("eth7 inet 10.1.2.3/32 "), "{addresses:?}");
        assert!(addresses[1].starts_with("eth7 inet6 fd00::3/64 "), "{addresses:?}");
        assert!(!addresses[1].contains("tentative"), "{addresses:?}");
        assert_eq!(
            of(&seen, "route4"),
            [
                "10.8.0.0/16 via 169.254.1.1 dev eth7 src 10.1.2.3 metric 7",
                "169.254.1.1 dev eth7 scope link",
                "203.0.113.0/24 via 10.77.0.1 dev eth7 onlink",
                "blackhole 192.0.2.0/24",
                "default via 169.254.1.1 dev eth7",
                "prohibit 198.51.100.0/24",
            ]
        );
        let six = of(&seen, "route6");
        for route in ["default via fe80::1 dev eth7", "fd00::/64 dev eth7"] {
            assert!(six.iter().any(|line| line.starts_with(route)), "{route}: {six:?}");
        }
        assert!(six.iter().any(|line| line.contains("unreachable 2001:db8:dead::/48")), "{six:?}");
        assert_eq!(
            of(&seen, "neigh"),
            [
                "10.77.0.1 dev eth7 lladdr 02:00:00:00:00:02 PERMANENT",
                "169.254.1.1 dev eth7 lladdr 02:00:00:00:00:02 PERMANENT",
                "fe80::1 dev eth7 lladdr 02:00:00:00:00:02 PERMANENT",
            ]
        );
        assert_eq!(
            of(&seen, "sysctl"),
            ["accept_dad 0", "accept_ra 0", "addr_gen_mode 1", "autoconf 0"]
        );
        assert_eq!(of(&seen, "resolv"), ["nameserver 10.9.0.10"]);
        assert_eq!(
            of(&seen, "hosts"),
            ["10.1.2.3 guest-host", "127.0.0.1 localhost", "::1 localhost"]
        );
    }
}

/// What is refused is named; what was set before stays.
async fn refused(vm: &Vm) {
    let before = seen(vm, "network").await;
    let mut wrong = request(&["10.1.2.3/33"], Vec::new());
    let error = vm.agent.configure_network(ctx(), &wrong).await.unwrap_err();
    let text = "network: address: 10.1.2.3/33: the prefix has at most 32 bits";
    assert_eq!(code(&error), (Code::INVALID_ARGUMENT, text.into()));
    wrong.addresses[0].prefix = 32;
    wrong.interface = "lo".into();
    assert_eq!(
        code(&vm.agent.configure_network(ctx(), &wrong).await.unwrap_err()).0,
        Code::INVALID_ARGUMENT
    );
    assert_eq!(before, seen(vm, "network").await);
}

async fn replaced(vm: &Vm) {
    let routes = vec![route("0.0.0.0/0", "10.2.0.1"), route("::/0", "fd01::1")];
    let mut request = request(&["10.2.0.9/24", "fd01::9/64", "10.2.0.10/24"], routes);
    request.mtu = 1300;
    vm.agent.configure_network(ctx(), &request).await.unwrap();
    let seen_now = seen(vm, "network").await;
    assert_eq!(of(&seen_now, "link"), ["eth7 02:00:00:00:00:01 1300 0x1003"]);
    let addresses = of(&seen_now, "addr");
    let starts = ["eth7 inet 10.2.0.10/24 ", "eth7 inet 10.2.0.9/24 ", "eth7 inet6 fd01::9/64 "];
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    for (address, start) in addresses.iter().zip(starts) {
        assert!(address.starts_with(start), "{addresses:?}");
    }
    assert_eq!(
        of(&seen_now, "route4"),
        ["10.2.0.0/24 dev eth7 scope link src 10.2.0.9", "default via 10.2.0.1 dev eth7"]
    );
    let six = of(&seen_now, "route6").join("; ");
    assert!(!six.contains("fd00") && !six.contains("dead") && !six.contains("fe80::1"), "{six}");
    assert_eq!(of(&seen_now, "neigh").len(), 2, "{seen_now:?}");
    // The kernel refuses a source that the guest does not have.
    request.routes.push(Route { source: bytes("10.9.9.9"), ..route("10.3.0.0/16", "10.2.0.1") });
    let error = vm.agent.configure_network(ctx(), &request).await.unwrap_err();
    let (code, text) = code(&error);
    assert_eq!(code, Code::INTERNAL);
    let start = "network: setting route to 10.3.0.0/16 via 10.2.0.1: Invalid argument";
    assert!(text.starts_with(start), "{text}");
    assert_eq!(of(&seen_now, "route4"), of(&seen(vm, "network").await, "route4"));
}

async fn switched_off(vm: &Vm) {
    vm.agent.configure_network(ctx(), &ConfigureNetworkRequest::default()).await.unwrap();
    let seen = seen(vm, "network").await;
    for kind in ["link", "addr", "route4", "neigh", "resolv"] {
        assert_eq!(of(&seen, kind), [""; 0], "{kind}");
    }
}
