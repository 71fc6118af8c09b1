//! Who comes in.

use std::net::SocketAddr;

use sandbox_tests::network::Server;
use sandbox_tests::paths;

use super::behind::Behind;

/// R62, group 22: the guest sees the client's own address, in both families,
/// and the bytes that it is sent.
#[test]
fn the_guest_sees_the_client() {
    let behind = Behind::with(&["--publish", "7100"]);
    let dir = tempfile::tempdir_in(paths::base()).unwrap();
    let words = ["listen", "[::]:7100", "tell-peer", "drain", "report"];
    let server = Server::start(&behind.guest, dir.path(), "guest", &words);
    server.until_ready();
    for ip in behind.network.pod().address.each() {
        let to = SocketAddr::new(ip, 7_100).to_string();
        let told = behind.network.world.toolbox(&[
            "tcp",
            &to,
            "local",
            "line",
            "send:5000000",
            "shut",
            "line",
        ]);
        let said = |word: &str, number: usize| {
            let found = told.split_whitespace().filter_map(|said| said.strip_prefix(word));
            found.map(str::to_owned).nth(number).unwrap_or_else(|| panic!("{told}"))
        };
        assert_eq!(said("local=", 0), said("line=", 0), "{told}");
        assert!(said("line=", 1).starts_with("5000000,"), "{told}");
    }
}

/// R62, groups 19 and 22: so does one who serves by UDP, and its answer comes
/// from where it was asked. The client is the pod's own gateway, and the pod.
#[test]
fn a_udp_server_sees_the_client() {
    let behind = Behind::with(&["--publish-udp", "7100"]);
    let dir = tempfile::tempdir_in(paths::base()).unwrap();
    let server = Server::start(&behind.guest, dir.path(), "guest", &["udp-echo", "[::]:7100"]);
    server.until_ready();
    let pod = behind.network.pod();
    for (ip, gateway) in pod.address.each().into_iter().zip(pod.gateway.each()) {
        let to = SocketAddr::new(ip, 7_100).to_string();
        let words = ["udp", &to, "local", "say:peer", "text", "send:20000", "recv"];
        let told = behind.network.world.toolbox(&words);
        let (ours, seen) = (address(&told, "local="), address(&told, "text="));
        assert_eq!((ours, ours.ip()), (seen, gateway), "{told}");
        assert!(told.ends_with("recv=20000"), "{told}");
        // One whose address is the guest's own seems to be the guest's gateway.
        let told = pod.namespace.toolbox(&["udp", &to, "local", "say:peer", "text"]);
        let (ours, seen) = (address(&told, "local="), address(&told, "text="));
        let gateway = if ip.is_ipv4() { gateway } else { "fe80::1".parse().unwrap() };
        assert_eq!((ours.ip(), seen.ip()), (ip, gateway), "{told}");
    }
    let told = behind.network.world.toolbox(&[
        "udp",
        &format!("{}:7101", pod.address.v4),
        "send:1",
        "recv",
    ]);
    assert!(told.ends_with("recv=ECONNREFUSED"), "{told}");
}

/// What a conversation has told behind this word, IPv4 addresses as such.
fn address(told: &str, word: &str) -> SocketAddr {
    let found = told.split_whitespace().find_map(|said| said.strip_prefix(word));
    let found = found.unwrap_or_else(|| panic!("no {word} in {told}"));
    let found: SocketAddr = found.parse().unwrap_or_else(|error| panic!("{error}: {told}"));
    SocketAddr::new(found.ip().to_canonical(), found.port())
}
