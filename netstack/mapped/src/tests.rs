#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

#[global_allocator]
static ALLOCATOR: Mapped = Mapped;

/// KiB that the process has in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Alone in its process' memory: the tests are one.
#[test]
fn rings_cost_what_is_used_of_them() {
    const RING: usize = 262_143;
    const COUNT: usize = 200;
    grows_and_shrinks();
    for _ in 0..3 {
        let before = resident();
        let mut rings: Vec<Vec<u8>> = (0..COUNT).map(|_| vec![0; RING]).collect();
        let untouched = resident();
        assert!(untouched < before + 2_000, "{before} KiB, then {untouched}");
        for ring in &mut rings {
            assert!(ring.iter().all(|byte| *byte == 0));
            ring.fill(1);
        }
        assert!(resident() > before + COUNT * RING / 1024 / 2);
        drop(rings);
        let after = resident();
        assert!(after < before + 2_000, "{before} KiB, then {after}");
    }
    small_blocks_are_given_back();
}

/// Across the size at which blocks are mapped, and back, bytes stay.
fn grows_and_shrinks() {
    let mut bytes: Vec<u8> = Vec::new();
    for n in 0..200_000_usize {
        bytes.push((n % 251) as u8);
    }
    for length in [150_000, MAPPED, MAPPED - 1, 100, 0] {
        bytes.truncate(length);
        bytes.shrink_to_fit();
        assert!(bytes.iter().enumerate().all(|(n, byte)| usize::from(*byte) == n % 251));
    }
}

fn small_blocks_are_given_back() {
    let before = resident();
    let mut blocks: Vec<Box<[u8; 3_000]>> = (0..20_000).map(|_| Box::new([1; 3_000])).collect();
    // What was asked for last stays and holds the heap's end in place.
    let last = blocks.pop();
    drop(blocks);
    let after = resident();
    assert!(after < before + 20_000, "{before} KiB, then {after}");
    drop(last);
}
