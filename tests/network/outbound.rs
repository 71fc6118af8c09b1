//! From a container to the world.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sandbox_tests::network::{CLOSES, ECHO, REFUSED, RESETS, SCRIPT, SERVER};
use sandbox_tests::{Bed, in_lab, tests, until};

use super::{inside, whole};

tests![
    Any tcp_and_udp_of_both_families_come_from_the_pods_address,
    Any datagrams_of_64_kib_come_back,
    Any a_refused_datagram_is_told,
    Any ping_of_both_families,
    Any each_half_of_a_connection_ends_by_itself,
    Any resets_go_both_ways,
    Any a_hundred_megabytes_each_way_are_the_same,
    Any a_server_that_closes_at_once_ends_in_order,
    Any two_hundred_connections_at_once,
    Any sockets_and_bytes_are_of_the_pods_namespace,
];

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn tcp_and_udp_of_both_families_come_from_the_pods_address(bed: &Bed) {
    let mut lines = String::new();
    for ip in SERVER.each() {
        lines.push_str(&format!(
            "toolbox tcp {} say:tell-peer,close line recv\ntoolbox udp {} say:peer text\n",
            at(ip, SCRIPT),
            at(ip, ECHO)
        ));
    }
    let told = inside(bed, &lines);
    let address = bed.network().pod().address.each();
    let from = |line: &str| {
        let mut peers = line.split(['=', ' ']).filter_map(|word| word.parse::<SocketAddr>().ok());
        peers.next().unwrap_or_else(|| panic!("no address in {line}")).ip()
    };
    let found: Vec<IpAddr> = told.iter().map(|line| from(line)).collect();
    assert_eq!(found, [address[0], address[0], address[1], address[1]], "{told:#?}");
    assert!(told[0].ends_with("recv=0") && told[2].ends_with("recv=0"), "{told:#?}");
}

/// R62.
fn datagrams_of_64_kib_come_back(bed: &Bed) {
    let mut lines = String::new();
    for ip in SERVER.each() {
        for size in [1, 1400, 1473, 9000, 65_507] {
            lines.push_str(&format!("toolbox udp {} send:{size} recv\n", at(ip, ECHO)));
        }
    }
    let told = inside(bed, &lines);
    let expected: Vec<String> = [1, 1400, 1473, 9000, 65_507]
        .iter()
        .map(|size| format!("connect=ok send={size} recv={size}"))
        .collect();
    assert_eq!(told, [expected.clone(), expected].concat());
}

fn a_refused_datagram_is_told(bed: &Bed) {
    let lines =
        SERVER.each().map(|ip| format!("toolbox udp {} send:4 await:err recv\n", at(ip, REFUSED)));
    let told = inside(bed, &lines.concat());
    assert_eq!(told, ["connect=ok send=4 await=err recv=ECONNREFUSED"; 2]);
}

fn ping_of_both_families(bed: &Bed) {
    let mut lines = String::new();
    for ip in SERVER.each() {
        for size in [56, 1400, 8000] {
            lines.push_str(&format!("ping -q -c 3 -i 0.2 -W 10 -s {size} {ip} | grep packets\n"));
        }
    }
    let told = inside(bed, &lines);
    assert_eq!(told, ["3 packets transmitted, 3 packets received, 0% packet loss"; 6]);
}

/// R57.
fn each_half_of_a_connection_ends_by_itself(bed: &Bed) {
    const BYTES: usize = 1_000_000;
    let mut lines = String::new();
    for ip in SERVER.each() {
        let server = at(ip, SCRIPT);
        lines.push_str(&format!(
            "toolbox tcp {server} say:drain,report,send:5,close send:{BYTES} shut line drain\n\
             toolbox tcp {server} say:send:{BYTES},shut,drain,close drain send:{BYTES} shut\n",
        ));
    }
    let told = inside(bed, &lines);
    let (all, five) = (whole(BYTES), whole(5));
    for (index, line) in told.iter().enumerate() {
        let end = if index % 2 == 0 {
            format!(" send={BYTES} shut=ok line={all} drain={five}")
        } else {
            format!(" drain={all} send={BYTES} shut=ok")
        };
        assert!(line.ends_with(&end), "{line} does not end with {end}");
    }
    assert_eq!(told.len(), 4);
    let whole_there = format!("send={BYTES} shut=ok drain={all} close=ok");
    until("the server has got all that came after its end", Duration::from_secs(10), || {
        let told = bed.network().told(&format!("tcp-{SCRIPT}"));
        (told.matches(&whole_there).count() == 2).then_some(())
    });
}

/// R57.
fn resets_go_both_ways(bed: &Bed) {
    let mut lines = String::new();
    for ip in SERVER.each() {
        lines.push_str(&format!(
            "toolbox tcp {} send:1 await:err recv send:1\n\
             toolbox tcp {} say:send:3,drain,close recv send:10 reset\n",
            at(ip, RESETS),
            at(ip, SCRIPT),
        ));
    }
    let told = inside(bed, &lines);
    for index in [0, 2] {
        let (_, rest) = told[index].split_once("await=").unwrap();
        assert!(rest.ends_with("recv=ECONNRESET send=EPIPE"), "{told:#?}");
    }
    for index in [1, 3] {
        assert!(told[index].ends_with("recv=3 send=10 reset=ok"), "{told:#?}");
    }
    until("the server was reset twice", Duration::from_secs(10), || {
        let told = bed.network().told(&format!("tcp-{SCRIPT}"));
        (told.matches("ECONNRESET").count() == 2).then_some(())
    });
}

/// R55 without the losses, which the stack's own tests have.
fn a_hundred_megabytes_each_way_are_the_same(bed: &Bed) {
    let bytes = if in_lab() { 4 << 20 } else { 100 << 20 };
    let before = bed.network().pod().namespace.bytes("eth0");
    let shell = bed.shell("a", |run| run.pod(bed.network().pod()));
    // The other family's part is to show that it is carried as well.
    for (ip, bytes) in SERVER.each().into_iter().zip([bytes, bytes / 10]) {
        let (server, all) = (at(ip, SCRIPT), whole(bytes));
        let since = Instant::now();
        let told = shell.line(&format!("toolbox tcp {server} say:send:{bytes},close drain"));
        assert!(told.ends_with(&format!("drain={all}")), "{told} does not end with {all}");
        let down = since.elapsed();
        let up = format!("toolbox tcp {server} say:drain,report,close send:{bytes} shut line");
        let told = shell.line(&up);
        assert!(told.ends_with(&format!("line={all}")), "{told} does not end with {all}");
        println!(
            "figure: {bytes} bytes by {ip}: in {down:.1?}, out {:.1?}",
            since.elapsed() - down
        );
    }
    shell.end();
    // R55: the pod's interface carries it, and counts it.
    let after = bed.network().pod().namespace.bytes("eth0");
    let carried = u64::try_from(bytes).unwrap();
    assert!(after.0 - before.0 > carried && after.1 - before.1 > carried, "{before:?} {after:?}");
}

fn a_server_that_closes_at_once_ends_in_order(bed: &Bed) {
    let lines = SERVER.each().map(|ip| format!("toolbox many {} 50 recv\n", at(ip, CLOSES)));
    assert_eq!(inside(bed, &lines.concat()), ["50 recv=0"; 2]);
}

fn two_hundred_connections_at_once(bed: &Bed) {
    let lines = SERVER
        .each()
        .map(|ip| format!("toolbox many {} 200 say:echo send:3000 shut drain\n", at(ip, SCRIPT)));
    let line = format!("200 say=echo send=3000 shut=ok drain={}", whole(3000));
    assert_eq!(inside(bed, &lines.concat()), [line.clone(), line]);
}

/// CNIs, service proxies and monitors see what they see of any pod.
fn sockets_and_bytes_are_of_the_pods_namespace(bed: &Bed) {
    let pod = bed.network().pod();
    let server = at(SERVER.v4.into(), SCRIPT);
    let words = ["toolbox", "tcp", &server.to_string(), "say:drain", "patience:600000", "recv"];
    let id = bed.run("a").pod(pod).detached(&words);
    let line = until("a connection in the pod's namespace", Duration::from_secs(20), || {
        let words = ["-Htn", "state", "established", "dst", &server.to_string()];
        let shown = pod.namespace.exec("ss", &words, &[]).ok().text();
        (!shown.is_empty()).then_some(shown)
    });
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains(&format!(" {}:", pod.address.v4)), "{line}");
    bed.remove(&id);
    until("no connection in the pod's namespace", Duration::from_secs(10), || {
        let words = ["-Htn", "dst", &server.to_string()];
        pod.namespace.exec("ss", &words, &[]).ok().text().is_empty().then_some(())
    });
}
