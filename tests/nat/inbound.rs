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
