//! A bridge network with a published port, as `nerdctl run -p` makes it: a
//! createRuntime hook runs CNI's own plugins on the namespace of the pid that
//! it is told.

use std::net::SocketAddr;
use std::time::Duration;

use sandbox_tests::network::Namespace;
use sandbox_tests::{Bed, spec, tests, until};
use serde_json::json;

use super::made::{entry, hook};

tests![Any a_bridge_network_with_a_published_port];

const PLUGINS: &str = "/usr/lib/cni";

/// The hook, which passes on what the plugins say is wrong: ADD of `bridge`, then of `portmap` with what that answered, both
/// in `host`, which stands for the host's namespace.
fn add(bed: &Bed, host: &Namespace) -> String {
    let data = bed.dir().join("cni");
    let bridge = json!({
        "cniVersion": "0.4.0", "name": "test", "type": "bridge", "bridge": "cni0",
        "isGateway": true, "ipMasq": true,
        "ipam": {
            "type": "host-local", "dataDir": data,
            "ranges": [[{ "subnet": "10.88.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }],
        },
    });
    let portmap = json!({
        "cniVersion": "0.4.0", "name": "test", "type": "portmap",
        "runtimeConfig": {
            "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
        },
    });
    let head = portmap.to_string();
    let head = head.strip_suffix('}').unwrap();
    format!(
        "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')\n\
         export CNI_COMMAND=ADD CNI_CONTAINERID=test CNI_IFNAME=eth0 CNI_PATH={PLUGINS}\n\
         export CNI_NETNS=/proc/$pid/ns/net\n\
         plugin() {{ nsenter --net={host} {PLUGINS}/$1; }}\n\
         said() {{ echo \"$result\" >&2; exit 1; }}\n\
         result=$(echo '{bridge}' | plugin bridge) || said\n\
         result=$(echo '{head},\"prevResult\":'\"$result\"'}}' | plugin portmap) || said",
        host = host.path().display()
    )
}

fn a_bridge_network_with_a_published_port(bed: &Bed) {
    assert!(
        std::path::Path::new(PLUGINS).join("portmap").exists(),
        "no CNI plugins: make deps installs containernetworking-plugins"
    );
    let network = bed.network();
    let (host, neighbour) = (&network.world, network.neighbour());
    network.serve(&neighbour.namespace, "neighbour", &["listen", "[::]:7100", "tell-peer"]);
    let create = hook(bed, "create", &add(bed, host));
    let peer = SocketAddr::new(neighbour.address.v4.into(), 7100);
    let line = format!("toolbox tcp {peer} line >/seen; exec toolbox listen 0.0.0.0:80 script");
    let mut spec = spec(&["sh", "-c", &line]);
    spec["hooks"] = json!({ "createRuntime": entry(&create) });
    let shim = bed.shim("a", spec);
    let root = bed.rootfs("a");
    shim.create(&shim.request(root.clone())).unwrap();
    shim.rpc().start().unwrap();

    // From elsewhere to the host's address and its published port.
    let to = SocketAddr::new(network.pod().gateway.v4.into(), 8080).to_string();
    let words = ["tcp", &to, "say:tell-peer,send:100000,close", "line", "drain"];
    let told = until("the published port", Duration::from_secs(30), || {
        let told = network.pod().namespace.toolbox(&words);
        (!told.contains("ECONNREFUSED")).then_some(told)
    });
    let client = network.pod().address.v4;
    assert!(told.contains(&format!("line={client}:")), "the client's address is not seen: {told}");
    assert!(told.ends_with(&format!("drain={}", super::whole(100_000))), "{told}");
    // Out of the bridge by the host's address.
    let seen = std::fs::read_to_string(root.join("seen")).unwrap();
    let masqueraded = neighbour.gateway.v4;
    assert!(seen.contains(&format!("line={masqueraded}:")), "{seen}");
    // The host reaches the container by its own address, and no other port.
    let own = network.world.toolbox(&["tcp", "10.88.0.2:80", "say:tell-peer,close", "line"]);
    assert!(own.contains("line=10.88.0.1:"), "{own}");
    let closed = network.world.toolbox(&["tcp", "10.88.0.2:81", "recv"]);
    assert_eq!(closed, "connect=ECONNREFUSED recv=ENOTCONN");

    shim.rpc().kill(9, true).unwrap();
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    shim.shutdown();
}
