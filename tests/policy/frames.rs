//! Frames that no well-behaved guest sends.

use sandbox_tests::network::{ECHO, OTHER, SERVER};
use sandbox_tests::{Bed, tests, until};
use std::time::Duration;

use super::{audited, configure, shell};

tests![Ours forged_sources_go_nowhere];

/// R64, with a socket for raw IP packets and with whole frames: what claims
/// to come from someone else is dropped, and what does not arrives.
fn forged_sources_go_nowhere(bed: &Bed) {
    configure(bed, None);
    let network = bed.network();
    let (pod, neighbour) = (network.pod(), network.neighbour());
    // On the loopback of the pod's namespace, where the sockets of the stack are.
    let loopback = format!("127.0.0.1:{ECHO}");
    network.serve(&pod.namespace, "loopback", &["udp-echo", &loopback]);
    let shell = shell(bed, None);
    let mac = shell.line("cat /sys/class/net/eth0/address");
    let (own, other) = (pod.address.v4, OTHER.v4);
    let forge = |from: &str, to: &str, text: &str| {
        for line in [
            format!("toolbox forge {from} {to} {ECHO} {text}"),
            format!("toolbox forge-frame eth0 {mac} {from} {to} {ECHO} {text}"),
        ] {
            assert_eq!(shell.line(&line), "sent=ok", "{line}");
        }
    };
    let other = other.to_string();
    for from in [&neighbour.address.v4.to_string(), &SERVER.v4.to_string()] {
        forge(from, &other, "forged");
    }
    // Of these the kernel sends packets with a source of its own, or none.
    for from in ["127.0.0.1", "0.0.0.0"] {
        let line = format!("toolbox forge-frame eth0 {mac} {from} {other} {ECHO} forged");
        assert_eq!(shell.line(&line), "sent=ok", "{line}");
    }
    let foreign = format!("toolbox forge-frame eth0 02:00:00:00:00:99 {own} {other} {ECHO} forged");
    assert_eq!(shell.line(&foreign), "sent=ok");
    let inward = format!("toolbox forge-frame eth0 {mac} {own} 127.0.0.1 {ECHO} inward");
    assert_eq!(shell.line(&inward), "sent=ok");
    audited(bed, &[("dst", &loopback), ("verdict", "deny"), ("reason", "invalid:loopback")]);
    // One after them that is true: had they gone out, they would be there.
    forge(&own.to_string(), &other, "true");
    let told = until("the true ones", Duration::from_secs(10), || {
        let told = network.told(&format!("udp-{other}"));
        (told.lines().count() > 2).then_some(told)
    });
    let lengths: Vec<&str> = told.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(lengths, ["4", "4"], "{told}");
    assert_eq!(network.told("loopback").trim(), "listening");
    shell.end();
}
