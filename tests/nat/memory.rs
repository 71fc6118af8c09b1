//! What the NAT costs.

use std::thread;
use std::time::{Duration, Instant};

use sandbox_tests::network::{SCRIPT, SERVER};

use super::behind::Behind;

/// KiB that a connection may cost, and what the allocator keeps.
const MOST: usize = 4 << 10;

/// R48, R58, group 12: who does not read holds back who writes; a hundred
/// megabytes one way and the other stay where they are.
#[test]
fn who_does_not_read_costs_little() {
    let behind = Behind::new();
    let to = format!("{}:{SCRIPT}", SERVER.v4);
    behind.guest.toolbox(&["tcp", &to, "say:send:1000000,close", "drain"]);
    let before = behind.resident();
    let scripts = [
        ["patience:3000", "say:send:100000000,close", "pause:3000", "reset"],
        ["patience:3000", "say:pause:3000,reset", "send:100000000", "reset"],
    ];
    thread::scope(|scope| {
        for words in scripts {
            let (guest, to) = (&behind.guest, &to);
            scope.spawn(move || guest.toolbox(&[&["tcp", to], &words[..]].concat()));
        }
        let end = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < end {
            let now = behind.resident();
            assert!(now < before + MOST, "{before} KiB became {now}");
            thread::sleep(Duration::from_millis(50));
        }
    });
    // And it serves others afterwards.
    let told = behind.guest.toolbox(&["tcp", &to, "say:send:10,close", "drain"]);
    assert!(told.contains("drain=10,"), "{told}");
}
