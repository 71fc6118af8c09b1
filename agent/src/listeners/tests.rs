#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::*;

fn holds(report: &Report, at: SocketAddr) -> bool {
    report.listening.iter().any(|l| l.ip == at.ip() && l.port == at.port())
}

fn watcher() -> (Watcher, watch::Receiver<Report>) {
    let (reports, receiver) = watch::channel(Report::default());
    let diag = Diag::open().unwrap();
    let (bell, ending, servers) = (Bell::clock(), HashSet::new(), Servers::default());
    (Watcher { diag, bell, ending, servers, reports }, receiver)
}

#[tokio::test]
async fn a_change_is_another_generation() {
    let started = Watcher::start(Bell::clock()).unwrap();
    let listeners = Listeners { reports: OnceCell::new_with(Some(started.clone())) };
    // At once, whatever else this machine listens on.
    let first = listeners.other_than(0).await.unwrap();
    assert_ne!(first.generation, 0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let mut reports = started.clone();
    let with = reports.wait_for(|report| holds(report, at)).await.unwrap().generation;
    assert!(with > first.generation);
    drop(listener);
    let without = reports.wait_for(|report| !holds(report, at)).await.unwrap().generation;
    assert!(without > with);
    assert!(listeners.other_than(with).await.unwrap().generation >= without);
}

#[tokio::test]
async fn a_socket_that_is_about_to_end_does_not_listen() {
    let (mut watcher, reports) = watcher();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let mut cookie = None;
    Diag::open()
        .unwrap()
        .each(&mut |socket| {
            if socket.listening.port == at.port() {
                cookie = Some(socket.cookie);
            }
        })
        .unwrap();
    let cookie = cookie.unwrap();
    watcher.look().unwrap();
    assert!(holds(&reports.borrow(), at));
    watcher.note(vec![Event::Ends(cookie)]);
    for _ in 0..2 {
        watcher.look().unwrap();
        assert!(!holds(&reports.borrow(), at));
    }
    // The same socket may be made to listen again.
    watcher.note(vec![Event::Began(cookie)]);
    watcher.look().unwrap();
    assert!(holds(&reports.borrow(), at));
    // What the kernel no longer lists is forgotten.
    watcher.note(vec![Event::Ends(cookie)]);
    drop(listener);
    watcher.look().unwrap();
    assert!(watcher.ending.is_empty());
}

/// A UDP socket on a port of its program's choice, and none that the kernel
/// chose.
#[tokio::test]
async fn udp_sockets_that_serve_are_reported() {
    let (mut watcher, reports) = watcher();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Below what the kernel gives out: any of them that is free.
    let server = (1_024..32_768).find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok());
    let server = server.unwrap();
    let (client, at) = (client.local_addr().unwrap(), server.local_addr().unwrap());
    watcher.look().unwrap();
    assert!(holds(&reports.borrow(), at));
    assert!(!holds(&reports.borrow(), client));
    drop(server);
    watcher.look().unwrap();
    assert!(!holds(&reports.borrow(), at));
}

#[test]
fn a_listener_is_told_as_bytes() {
    let of = |ip: &str, v6_only, udp| {
        let told = listener(&Listening { udp, port: 80, ip: ip.parse().unwrap(), v6_only });
        (told.ip, told.port, told.v6_only, told.udp)
    };
    assert_eq!(of("127.0.0.1", false, false), (vec![127, 0, 0, 1], 80, false, false));
    assert_eq!(of("::", true, true), (vec![0; 16], 80, true, true));
}

#[test]
fn a_report_has_a_bound_and_no_favourites() {
    let one = |n: u16| Listening { udp: false, port: n, ip: [127, 0, 0, 1].into(), v6_only: false };
    let (mut up, mut down) = (BTreeSet::new(), BTreeSet::new());
    (1..=10_000).for_each(|n| keep(&mut up, one(n)));
    (1..=10_000).rev().for_each(|n| keep(&mut down, one(n)));
    assert_eq!(up.len(), MAX_LISTENERS);
    assert_eq!(up, down);
}
