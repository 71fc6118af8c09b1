//! Memory pressure.

use std::hint::black_box;
use std::io::{Write, stdout};

/// Takes `mib` MiB, a MiB at a time, and writes to every page of each. Prints
/// the sum so far, for whoever watches where it ends.
pub fn eat(mib: usize) -> anyhow::Result<()> {
    let mut held = Vec::new();
    for taken in 1..=mib {
        held.push(vec![1_u8; 1 << 20]);
        black_box(&held);
        writeln!(stdout(), "{taken}")?;
    }
    Ok(())
}
