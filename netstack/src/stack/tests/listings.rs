//! What is shown of the stack: flows, names and counters.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use smoltcp::time::Duration;

use super::names::{POLICY, answer, ask, resolver};
use super::*;
use crate::capture::Capture;
use crate::host::KernelNet;
use crate::host::mock::Fate;
use crate::pcap::Way;
use crate::policy::{Direction, Protocol, Reason, Tier};
use crate::stack::Stack;

/// The process that has the stack runs it on a thread of its own.
#[test]
fn the_stack_may_go_to_another_thread() {
    fn goes<T: Send>() {}
    goes::<Stack<KernelNet>>();
}

/// Every flow is shown once, the oldest first, with what it carried and what
/// allowed it.
#[test]
fn flows_are_shown() {
    let policy = "version = 1\ndefaults = { egress = \"allow\", ingress = \"allow\" }\n\
        [[rule]]\nid = \"web\"\ndir = \"egress\"\naction = \"allow\"\nports = [80]\n";
    let mut sim = Sim::under(policy);
    let (seq, ack) = sim.connect(GUEST, SERVER);
    sim.send(GUEST, SERVER, &Tcp { seq, ack, data: b"four", ..Tcp::default() });
    sim.stack.host().touch(0, |pipe| pipe.incoming.extend(b"seven!!"));
    sim.now += Duration::from_secs(3);
    sim.run();
    let hole = ([203, 0, 113, 1], 443).into();
    sim.fate(hole, Fate::Silent);
    sim.send(GUEST, hole, &Tcp { seq: 1, flags: SYN, ..Tcp::default() });
    sim.datagram(GUEST, SERVER, b"ask");
    sim.stack.host().deliver(0, |socket| socket.incoming.push_back((SERVER, b"it".to_vec())));
    sim.run();
    let rows = sim.stack.flows();
    let said: Vec<_> =
        rows.iter().map(|row| (row.id, row.protocol, row.ends.remote, row.state)).collect();
    assert_eq!(
        said,
        [
            (1, Protocol::Tcp, SERVER, "open"),
            (2, Protocol::Tcp, hole, "dialing"),
            (3, Protocol::Udp, SERVER, "open"),
        ]
    );
    let carried: Vec<_> = rows.iter().map(|row| (row.sent, row.received)).collect();
    assert_eq!(carried, [(4, 7), (0, 0), (3, 2)]);
    let first = &rows[0];
    assert_eq!((first.direction, first.ends.guest), (Direction::Egress, GUEST));
    assert_eq!(
        (first.rule.as_deref(), first.tier, first.reason),
        (Some("web"), Tier::Pod, Reason::Rule)
    );
    assert_eq!((rows[1].rule.as_deref(), rows[1].reason), (None, Reason::Default));
    assert_eq!(rows[1].since, first.since + Duration::from_secs(3));
    sim.stack.end(&mut sim.port, sim.now);
    assert_eq!((sim.stack.flows(), sim.stack.load()), (vec![], crate::stack::Load::default()));
    assert!(sim.stack.host().pipes.iter().all(|pipe| pipe.borrow().reset));
}

/// R76: a flow has the same number in the audit, when it opens and when it
/// ends, and among the open flows; its names are those of the verdict.
#[test]
fn a_flow_has_one_number() {
    let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
    ask(&mut sim, "api.example.com");
    sim.stack.host().deliver(0, |socket| socket.incoming.push_back((resolver(), answer())));
    sim.run();
    sim.packets();
    let api: SocketAddr = ([93, 184, 216, 34], 443).into();
    let (seq, ack) = sim.connect(GUEST, api);
    let rows = sim.stack.flows();
    assert_eq!(rows[1].ends.remote, api);
    let names: Vec<_> = rows[1].names.live.iter().map(|known| known.asked.as_str()).collect();
    assert_eq!(names, ["api.example.com"]);
    sim.send(GUEST, api, &Tcp { seq, ack, flags: RST | ACK, ..Tcp::default() });
    let audit = sim.audit();
    let lines: Vec<_> = audit.iter().filter(|line| line["dst"] == api.to_string()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["flow"] == rows[1].id), "{lines:?}");
    assert_eq!(lines[1]["close"], "reset by guest");
}

/// Names are shown with the time that is left to them.
#[test]
fn names_are_shown() {
    let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
    ask(&mut sim, "api.example.com");
    sim.stack.host().deliver(0, |socket| socket.incoming.push_back((resolver(), answer())));
    sim.run();
    let names = sim.stack.names(sim.now + Duration::from_secs(10));
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].address.to_string(), "93.184.216.34");
    assert_eq!(names[0].known.asked.as_str(), "api.example.com");
    // A minute of its own and the policy's grace of five.
    assert_eq!(names[0].seconds, 60 + 300 - 10);
}

/// R76: what is refused and dropped is counted, whoever did it, and comes out
/// by name.
#[test]
fn counters_have_names() {
    let mut sim = Sim::watched(POLICY, &[resolver().ip()]);
    ask(&mut sim, "evil.example.com");
    sim.send(GUEST, SERVER, &Tcp { seq: 1, flags: SYN, ..Tcp::default() });
    let foreign: SocketAddr = ([10, 0, 0, 9], 1).into();
    sim.send(foreign, SERVER, &Tcp { flags: SYN, ..Tcp::default() });
    let counts = sim.stack.counts();
    let count = |name: &str| counts.iter().find(|(own, _)| own == name).map(|(_, count)| *count);
    assert_eq!(count("refused.source-address"), Some(1));
    assert_eq!(count("flows.denied"), Some(1));
    assert_eq!((count("audit.denied"), count("audit.blocked")), (Some(1), Some(1)));
    assert_eq!((count("dns.blocked"), count("replies.dropped")), (Some(1), Some(0)));
    assert!(counts.is_sorted());
}

type Frames = Arc<Mutex<Vec<(Way, Vec<u8>, String)>>>;

/// Keeps what a capture gets: which way, the frame, and the comment.
struct Kept(Frames);

impl Capture for Kept {
    fn frame(&self, _: smoltcp::time::Instant, way: Way, frame: &[u8], comment: &str) {
        self.0.lock().unwrap().push((way, frame.to_vec(), comment.to_owned()));
    }
}

/// R76: a capture has the frames of both ways in their order, with their flow
/// and what the policy or the gate said.
#[test]
fn frames_are_captured() {
    let policy = "version = 1\ndefaults = { egress = \"deny\", ingress = \"deny\" }\n\
        [[rule]]\nid = \"web\"\ndir = \"egress\"\naction = \"allow\"\nports = [80]\n";
    let mut sim = Sim::under(policy);
    let kept = Arc::new(Mutex::new(vec![]));
    sim.stack.capture(Some(Arc::new(Kept(kept.clone()))));
    sim.connect(GUEST, SERVER);
    sim.stack.host().touch(0, |pipe| pipe.incoming.extend(b"x"));
    sim.run();
    sim.datagram(GUEST, SERVER, b"x");
    sim.stack.host().deliver(0, |socket| socket.incoming.push_back((SERVER, b"y".to_vec())));
    sim.run();
    sim.datagram(GUEST, ([192, 0, 2, 1], 81).into(), b"x");
    let foreign: SocketAddr = ([10, 0, 0, 9], 1).into();
    sim.send(foreign, SERVER, &Tcp { flags: SYN, ..Tcp::default() });
    let said = |kept: &Frames| {
        let kept = kept.lock().unwrap();
        kept.iter().map(|(way, _, comment)| (*way, comment.clone())).collect::<Vec<_>>()
    };
    let expected = [
        (Way::Out, "flow 1: allow by web (pod, rule)"),
        (Way::In, "flow 1"),
        (Way::Out, "flow 1"),
        (Way::In, "flow 1"),
        (Way::Out, "flow 2: allow by web (pod, rule)"),
        (Way::In, "flow 2"),
        (Way::Out, "deny (pod, default)"),
        (Way::In, ""),
        (Way::Out, "refused: source address"),
    ];
    assert_eq!(said(&kept), expected.map(|(way, comment)| (way, comment.to_owned())));
    assert_eq!(kept.lock().unwrap()[0].1[..12], [GATEWAY.0, MAC.0].concat());
    sim.stack.capture(None);
    sim.datagram(GUEST, SERVER, b"x");
    assert_eq!(said(&kept).len(), expected.len());
}
