//! What system calls answer: the kernel's word is the measure.

use std::net::{IpAddr, SocketAddr};
use std::thread;

use sandbox_tests::network::{
    BLACK_HOLE, Both, CLOSES, ECHO, HELLO, PROHIBITED, PROHIBITED_HERE, REFUSED, RESETS, SCRIPT,
    SERVER, UNREACHABLE, UNREACHABLE_HERE,
};
use sandbox_tests::{Network, paths};

use super::behind::Behind;

/// `toolbox <protocol> <address>:<port> <words>`.
struct Case(&'static str, Both, u16, &'static str);

const CASES: &[Case] = &[
    // connect
    Case("tcp", SERVER, HELLO, "peer line recv"),
    Case("tcp", SERVER, REFUSED, "error"),
    Case("tcp", SERVER, REFUSED, "send:1 recv poll:0"),
    // Without SO_ERROR: to who is beside its router on one machine, the first
    // refusal comes within the call itself and stays there as a soft error.
    Case("tcp", UNREACHABLE, SCRIPT, "send:1 recv"),
    Case("tcp", PROHIBITED, SCRIPT, "send:1 recv"),
    Case("tcp", UNREACHABLE_HERE, SCRIPT, "recv"),
    Case("tcp", PROHIBITED_HERE, SCRIPT, "recv"),
    Case("tcp", BLACK_HOLE, SCRIPT, "limit:2000 connect recv"),
    Case("tcp", BLACK_HOLE, SCRIPT, "patience:300 connect send:1 poll:0"),
    Case("tcp", SERVER, SCRIPT, "connect connect"),
    // read and write
    Case("tcp", SERVER, CLOSES, "await:rdhup recv recv poll:0 error"),
    Case("tcp", SERVER, CLOSES, "await:rdhup send:1 await:err send:1 recv"),
    Case("tcp", SERVER, RESETS, "send:1 await:err poll:0 recv recv"),
    Case("tcp", SERVER, RESETS, "send:1 await:err error recv send:1"),
    Case("tcp", SERVER, RESETS, "send:1 await:err send:1 send:1 recv"),
    Case("tcp", SERVER, SCRIPT, "shut send:1 await:rdhup recv"),
    Case("tcp", SERVER, SCRIPT, "shut-read recv"),
    Case(
        "tcp",
        SERVER,
        SCRIPT,
        "say:send:10,shut,recv,close await:in recv await:rdhup send:1 recv",
    ),
    Case("tcp", SERVER, SCRIPT, "say:recv,reset send:9 await:err recv"),
    Case("tcp", SERVER, SCRIPT, "poll:0 say:close await:rdhup poll:0"),
    Case("tcp", SERVER, SCRIPT, "say:send:20000000,shut drain shut"),
    Case("tcp", SERVER, SCRIPT, "say:drain,report,close send:20000000 shut line recv"),
    // datagrams
    Case("udp", SERVER, ECHO, "send:100 recv send:1400 recv send:65507 recv"),
    Case("udp", SERVER, ECHO, "send:65508"),
    Case(
        "udp",
        SERVER,
        REFUSED,
        "patience:500 send:1 await:err poll:0 error send:1 await:err send:1 recv",
    ),
    Case("udp", UNREACHABLE, ECHO, "patience:500 send:1 recv"),
    Case("udp", PROHIBITED, ECHO, "patience:500 send:1 recv"),
    Case("udp", BLACK_HOLE, ECHO, "patience:500 send:1 recv"),
];

/// What cannot be the same, with the reason. A route of the pod's own that
/// prohibits is EACCES to who is on it; over IPv4 ICMP has no word that Linux
/// reads so for TCP.
fn is_known(case: &Case, ip: IpAddr) -> bool {
    ip == IpAddr::from(PROHIBITED_HERE.v4) && case.0 == "tcp"
}

/// R57, R62, groups 1, 5, 6, 19, 21: in both families, every connect, read and
/// write is answered behind the NAT as it is before it.
#[test]
fn every_call_is_answered_as_by_the_kernel() {
    let behind = Behind::new();
    // A router of its own: of what its routes refuse, Linux tells one peer at
    // most five times at once and once more a second
    // (net.ipv4.route.error_burst), which is just enough for one run.
    let dir = tempfile::tempdir_in(paths::base()).unwrap();
    let beside = Network::new(&dir.path().join("network"));
    let cases: Vec<(&Case, IpAddr)> =
        CASES.iter().flat_map(|case| case.1.each().map(|ip| (case, ip))).collect();
    let told = |here: &sandbox_tests::network::Namespace| -> Vec<String> {
        thread::scope(|scope| {
            let threads = cases.iter().map(|(case, ip)| {
                scope.spawn(move || {
                    let to = SocketAddr::new(*ip, case.2).to_string();
                    let words: Vec<&str> =
                        [case.0, &to].into_iter().chain(case.3.split(' ')).collect();
                    here.toolbox(&words)
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let (kernel, nat) = (told(&beside.pod().namespace), told(&behind.guest));
    let other: Vec<String> = cases
        .iter()
        .zip(kernel.iter().zip(&nat))
        .filter(|((case, ip), (kernel, nat))| (kernel == nat) == is_known(case, *ip))
        .map(|((case, ip), (kernel, nat))| {
            format!("{} {ip}:{} {}\n  kernel: {kernel}\n  NAT:    {nat}", case.0, case.2, case.3)
        })
        .collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
}
