//! Settings of glibc's allocator for programs that run the network stack: the
//! memory of closed connections goes back to the host
//! (`docs/decisions/007-memory-of-the-stack.md`).

/// Blocks from this size on are mappings of their own: most rings.
const MAPPED: libc::c_int = 16 << 10;

/// Maps each large block by itself from now on. A page of a ring that was never
/// used costs nothing then, and a connection that is closed gives its rings
/// back. By default glibc raises the size from which it maps blocks whenever a
/// mapped block is freed; setting it turns that off.
pub fn map_large_blocks() {
    // SAFETY: changes a setting of the allocator, and no memory.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED) };
}

/// Gives the free pages of the heap back. Without this, glibc keeps what lies
/// below the block that was allocated last. Takes milliseconds for a heap of
/// tens of megabytes.
pub fn trim() {
    // SAFETY: gives back only pages in which no block lies.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    /// KiB that the process has in memory.
    fn resident() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// One test, since it measures the memory of the process.
    #[test]
    fn rings_cost_what_is_used_of_them() {
        const RING: usize = 262_143;
        const COUNT: usize = 200;
        map_large_blocks();
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

    fn small_blocks_are_given_back() {
        let before = resident();
        let mut blocks: Vec<Box<[u8; 3_000]>> = (0..20_000).map(|_| Box::new([1; 3_000])).collect();
        // The block that was allocated last stays and holds the heap's end in
        // place.
        let last = blocks.pop();
        drop(blocks);
        trim();
        let after = resident();
        assert!(after < before + 5_000, "{before} KiB, then {after}");
        drop(last);
    }
}
