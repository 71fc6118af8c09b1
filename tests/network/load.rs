//! Many flows at once, slow ones and ones that lead nowhere: the others do
//! not notice.

use std::net::SocketAddr;
use std::time::Duration;

use sandbox_tests::network::{BLACK_HOLE, SCRIPT, SERVER};
use sandbox_tests::{Bed, Shell, in_lab, patience, tests};

use super::whole;

tests![
    Any a_black_hole_delays_nobody,
    Any a_saturated_link_takes_new_connections,
    Any a_reader_that_stops_holds_its_sender_and_nobody_else,
    Any connections_in_a_row_leave_nothing_behind,
];

fn server() -> SocketAddr {
    SocketAddr::new(SERVER.v4.into(), SCRIPT)
}

/// Twenty connections, one after the other: none takes what a lost packet
/// would cost.
fn twenty_are_quick(shell: &Shell<'_>) {
    let told = shell.line(&format!("toolbox row {} 20 say:send:3,close recv", server()));
    let (lines, slowest) = told.rsplit_once("slowest ").expect("the slowest");
    assert_eq!(lines.trim(), "20 connect=ok say=send:3,close recv=3");
    println!("figure: the slowest of twenty connections beside the load: {slowest} ms");
    let slowest = Duration::from_millis(slowest.parse().unwrap());
    assert!(slowest < patience(Duration::from_secs(1)), "a connection took {slowest:?}");
}

fn shell(bed: &Bed) -> Shell<'_> {
    bed.shell("a", |run| run.pod(bed.network().pod()))
}

/// R59: attempts that get no answer, and queries.
fn a_black_hole_delays_nobody(bed: &Bed) {
    let shell = shell(bed);
    let hole = SocketAddr::new(BLACK_HOLE.v4.into(), SCRIPT);
    shell.begin(&format!("toolbox many {hole} 200 recv & nslookup name.test {} &", hole.ip()));
    twenty_are_quick(&shell);
    shell.end();
}

/// R60.
fn a_saturated_link_takes_new_connections(bed: &Bed) {
    let bytes: usize = if in_lab() { 16 << 20 } else { 32 << 20 };
    let shell = shell(bed);
    // In the background, so that the shell takes the next line.
    shell.line(&format!(
        "toolbox tcp {0} say:send:{bytes},close drain >/down & \
         toolbox tcp {0} say:drain,report,close send:{bytes} shut line >/up & true",
        server()
    ));
    twenty_are_quick(&shell);
    let told = shell
        .line("for way in down up; do until test -s /$way; do usleep 20000; done; cat /$way; done");
    let lines: Vec<&str> = told.lines().collect();
    let all = whole(bytes);
    assert!(lines[0].ends_with(&format!("drain={all}")), "{told}");
    assert!(lines[1].ends_with(&format!("line={all}")), "{told}");
    shell.end();
}

/// R58: nothing is lost, and nothing grows while it waits.
fn a_reader_that_stops_holds_its_sender_and_nobody_else(bed: &Bed) {
    let bytes: usize = if in_lab() { 2 << 20 } else { 8 << 20 };
    let shell = shell(bed);
    let slow = format!(
        "for n in 1 2 3 4 5 6 7 8; do toolbox tcp {} say:send:{bytes},close pause:3000 drain \
         >/slow.$n & done; true",
        server()
    );
    shell.line(&slow);
    twenty_are_quick(&shell);
    let told = shell.line(
        "for n in 1 2 3 4 5 6 7 8; do until test -s /slow.$n; do usleep 20000; done; \
         cat /slow.$n; done | uniq -c",
    );
    let line = format!("8 connect=ok say=send:{bytes},close drain={}", whole(bytes));
    assert_eq!(told, line);
    shell.end();
}

/// R61 in part: what is closed makes room for the next.
fn connections_in_a_row_leave_nothing_behind(bed: &Bed) {
    let rounds = if in_lab() { 1 } else { 10 };
    let shell = shell(bed);
    for _ in 0..rounds {
        let told = shell.line(&format!("toolbox many {} 300 say:send:3,close drain", server()));
        assert_eq!(told, format!("300 say=send:3,close drain={}", whole(3)));
    }
    let pod = &bed.network().pod().namespace;
    let open = || pod.exec("ss", &["-Htn", "state", "established"], &[]).ok().text();
    sandbox_tests::until("no connection", Duration::from_secs(10), || {
        open().is_empty().then_some(())
    });
    shell.end();
}
