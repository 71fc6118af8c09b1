//! What the system calls of a client answer, whatever goes wrong: the table
//! is runc's, that is the kernel's, and every other runtime is to answer the
//! same.

use std::net::{IpAddr, SocketAddr};

use sandbox_tests::network::{
    BLACK_HOLE, Both, CLOSES, ECHO, PROHIBITED, PROHIBITED_HERE, REFUSED, RESETS, SCRIPT, SERVER,
    UNREACHABLE, UNREACHABLE_HERE,
};
use sandbox_tests::{Bed, tests};

use super::{at_once, inside};

tests![
    Any every_error_has_its_errno,
    Any a_prohibited_datagram_is_told,
];

/// `toolbox <protocol> <address>:<port> <words>`, and what it answers over
/// IPv4 and IPv6.
struct Case(&'static str, To, u16, &'static str, [&'static str; 2]);

const fn same(told: &'static str) -> [&'static str; 2] {
    [told, told]
}

enum To {
    Each(Both),
    /// Of the pod's own network, and nobody has it.
    Nobody,
    /// The pod itself.
    Itself,
    Loopback,
}
use To::{Each, Itself, Loopback, Nobody};

const CASES: &[Case] = &[
    Case("tcp", Each(SERVER), REFUSED, "error", same("connect=ECONNREFUSED error=none")),
    Case(
        "tcp",
        Each(SERVER),
        REFUSED,
        "send:1 recv poll:0",
        same("connect=ECONNREFUSED send=EPIPE recv=ENOTCONN poll=out|hup"),
    ),
    Case(
        "tcp",
        Each(UNREACHABLE),
        SCRIPT,
        "send:1 recv",
        [
            "connect=EHOSTUNREACH send=EPIPE recv=ENOTCONN",
            "connect=ENETUNREACH send=EPIPE recv=ENOTCONN",
        ],
    ),
    Case(
        "tcp",
        Each(PROHIBITED),
        SCRIPT,
        "send:1 recv",
        [
            "connect=EHOSTUNREACH send=EPIPE recv=ENOTCONN",
            "connect=EACCES send=EPIPE recv=ENOTCONN",
        ],
    ),
    Case(
        "tcp",
        Each(BLACK_HOLE),
        SCRIPT,
        "limit:2000 connect recv",
        same("connect=ETIMEDOUT recv=ENOTCONN"),
    ),
    Case(
        "tcp",
        Each(BLACK_HOLE),
        SCRIPT,
        "patience:300 connect send:1 poll:0",
        same("connect=pending send=silence poll=silence"),
    ),
    Case("tcp", Each(UNREACHABLE_HERE), SCRIPT, "recv", same("connect=EHOSTUNREACH recv=ENOTCONN")),
    Case("tcp", Each(PROHIBITED_HERE), SCRIPT, "recv", same("connect=EACCES recv=ENOTCONN")),
    Case("tcp", Nobody, SCRIPT, "recv", same("connect=EHOSTUNREACH recv=ENOTCONN")),
    Case("tcp", Itself, REFUSED, "recv", same("connect=ECONNREFUSED recv=ENOTCONN")),
    Case("tcp", Loopback, REFUSED, "recv", same("connect=ECONNREFUSED recv=ENOTCONN")),
    Case(
        "tcp",
        Each(SERVER),
        CLOSES,
        "await:rdhup recv recv poll:0 error",
        same("connect=ok await=rdhup recv=0 recv=0 poll=in|out|rdhup error=none"),
    ),
    Case(
        "tcp",
        Each(SERVER),
        CLOSES,
        "await:rdhup send:1 await:err send:1 recv",
        same("connect=ok await=rdhup send=1 await=err|hup send=EPIPE recv=0"),
    ),
    Case(
        "tcp",
        Each(SERVER),
        RESETS,
        "send:1 await:err poll:0 recv recv",
        same("connect=ok send=1 await=err|hup poll=in|out|rdhup|err|hup recv=ECONNRESET recv=0"),
    ),
    Case(
        "tcp",
        Each(SERVER),
        RESETS,
        "send:1 await:err error recv send:1",
        same("connect=ok send=1 await=err|hup error=ECONNRESET recv=0 send=EPIPE"),
    ),
    Case(
        "tcp",
        Each(SERVER),
        RESETS,
        "send:1 await:err send:1 send:1 recv",
        same("connect=ok send=1 await=err|hup send=ECONNRESET send=EPIPE recv=0"),
    ),
    Case(
        "tcp",
        Each(SERVER),
        SCRIPT,
        "shut send:1 await:rdhup recv",
        same("connect=ok shut=ok send=EPIPE await=rdhup|hup recv=0"),
    ),
    Case("tcp", Each(SERVER), SCRIPT, "shut-read recv", same("connect=ok shut-read=ok recv=0")),
    Case("tcp", Each(SERVER), SCRIPT, "connect connect", same("connect=ok connect=EISCONN")),
    Case(
        "tcp",
        Each(SERVER),
        SCRIPT,
        "say:send:10,shut,recv,close await:in recv await:rdhup send:1 recv",
        same("connect=ok say=send:10,shut,recv,close await=in recv=10 await=rdhup send=1 recv=0"),
    ),
    Case(
        "tcp",
        Each(SERVER),
        SCRIPT,
        "say:recv,reset send:9 await:err recv",
        same("connect=ok say=recv,reset send=9 await=err|hup recv=ECONNRESET"),
    ),
    Case(
        "tcp",
        Each(SERVER),
        SCRIPT,
        "poll:0 say:close await:rdhup poll:0",
        same("connect=ok poll=out say=close await=rdhup poll=in|out|rdhup"),
    ),
    Case(
        "udp",
        Each(SERVER),
        REFUSED,
        "patience:500 send:1 await:err poll:0 error send:1 await:err send:1 recv",
        same(
            "connect=ok send=1 await=err poll=out|err error=ECONNREFUSED send=1 await=err send=ECONNREFUSED recv=silence",
        ),
    ),
    Case(
        "udp",
        Each(SERVER),
        ECHO,
        "send:65507 recv send:65508",
        [
            "connect=ok send=65507 recv=65507 send=EMSGSIZE",
            "connect=ok send=65507 recv=65507 send=65508",
        ],
    ),
    Case(
        "udp",
        Each(UNREACHABLE),
        ECHO,
        "patience:500 send:1 recv",
        same("connect=ok send=1 recv=silence"),
    ),
    Case(
        "udp",
        Each(BLACK_HOLE),
        ECHO,
        "patience:500 send:1 recv",
        same("connect=ok send=1 recv=silence"),
    ),
    Case(
        "udp",
        Each(UNREACHABLE_HERE),
        ECHO,
        "send:1",
        same("connect=EHOSTUNREACH send=EDESTADDRREQ"),
    ),
    Case("udp", Each(PROHIBITED_HERE), ECHO, "send:1", same("connect=EACCES send=EDESTADDRREQ")),
    Case(
        "udp",
        Itself,
        REFUSED,
        "send:1 await:err recv",
        same("connect=ok send=1 await=err recv=ECONNREFUSED"),
    ),
];

/// The differential test: one program, one answer.
fn every_error_has_its_errno(bed: &Bed) {
    let pod = bed.network().pod();
    let mut lines = String::new();
    for Case(protocol, to, port, words, _) in CASES {
        let addresses: [IpAddr; 2] = match to {
            Each(both) => both.each(),
            Nobody => ["10.77.1.99".parse().unwrap(), "fd77:0:0:1::99".parse().unwrap()],
            Itself => pod.address.each(),
            Loopback => ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        };
        for address in addresses {
            let at = SocketAddr::new(address, *port);
            lines.push_str(&format!("toolbox {protocol} {at} {words}\n"));
        }
    }
    let told = at_once(bed, &lines);
    assert_eq!(told.len(), 2 * CASES.len(), "{told:#?}");
    let mut wrong = vec![];
    for (index, Case(protocol, _, _, words, expected)) in CASES.iter().enumerate() {
        for (family, version) in [4, 6].into_iter().enumerate() {
            let found = &told[2 * index + family];
            if found != expected[family] {
                let case = lines.lines().nth(2 * index + family).unwrap();
                wrong.push(format!(
                    "{case}\n    IPv{version} {protocol} {words}\n    found    {found}\n    expected {}",
                    expected[family]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// A router tells one host of few errors in a second, and a datagram is not
/// sent again by itself: one of some is told of.
fn a_prohibited_datagram_is_told(bed: &Bed) {
    let lines = PROHIBITED.each().map(|ip| {
        let to = SocketAddr::new(ip, ECHO);
        format!(
            "for n in $(seq 20); do toolbox udp {to} patience:1000 send:1 recv; done | \
             grep -m 1 -o 'recv=E[A-Z]*'\n"
        )
    });
    assert_eq!(inside(bed, &lines.concat()), ["recv=EHOSTUNREACH", "recv=EACCES"]);
}
