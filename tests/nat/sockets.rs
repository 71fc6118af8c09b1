//! Where the NAT's sockets are.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Duration;

use sandbox_tests::network::{ECHO, Namespace, SCRIPT, SERVER};

use super::behind::Behind;

/// R52, group 23: every socket of the NAT, for TCP, UDP and who comes in, is
/// of the pod's namespace, whatever namespace the guest has.
#[test]
fn every_socket_is_of_the_pods_namespace() {
    let behind = Behind::with(&["--publish", "7100"]);
    let script = format!("{}:{SCRIPT}", SERVER.v4);
    let echo = format!("[{}]:{ECHO}", SERVER.v6);
    thread::scope(|scope| {
        scope.spawn(|| behind.guest.toolbox(&["tcp", &script, "say:pause:3000,close", "recv"]));
        behind.guest.toolbox(&["udp", &echo, "send:1", "recv"]);
        // Two listeners, the datagrams, and the connection once it is made.
        let found = sandbox_tests::until("four sockets", Duration::from_secs(3), || {
            let found = sockets(behind.pid());
            (found.len() >= 4).then_some(found)
        });
        let pods = of(&behind.network.pod().namespace);
        let others: Vec<_> = found.difference(&pods).collect();
        assert!(others.is_empty(), "{others:?} of {found:?} are elsewhere");
        assert!(of(&behind.guest).is_disjoint(&found));
    });
}

/// Inodes of a process's sockets.
fn sockets(pid: i32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let inode = |entry: std::io::Result<fs::DirEntry>| {
        let target = fs::read_link(entry.ok()?.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(inode).collect()
}

/// Inodes of a namespace's sockets, whosever they are.
fn of(namespace: &Namespace) -> BTreeSet<u64> {
    let tables = ["tcp", "tcp6", "udp", "udp6"];
    let read = |table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
    let text = namespace.run(|| tables.map(read).concat());
    let inode = |line: &str| line.split_whitespace().nth(9).and_then(|field| field.parse().ok());
    text.lines().filter_map(inode).collect()
}
