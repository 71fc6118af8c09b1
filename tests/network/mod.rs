//! What the network of a pod is to the programs in it and to the world: the
//! same under every runtime.

use sandbox_tests::Bed;
use sha2::{Digest, Sha256};

pub mod cni;
pub mod errors;
pub mod inbound;
pub mod interface;
pub mod load;
pub mod made;
pub mod names;
pub mod outbound;
pub mod pod;

/// Lines of shell in a container of the test's pod; gives what it said.
fn inside(bed: &Bed, lines: &str) -> Vec<String> {
    let out = bed.run("a").pod(bed.network().pod()).shell(lines).ok();
    out.text().lines().map(str::to_owned).collect()
}

/// The same, each line beside the others, as most of them wait; each says one
/// line.
fn at_once(bed: &Bed, lines: &str) -> Vec<String> {
    let mut script = "mkdir /told; cd /told\n".to_owned();
    for (number, line) in lines.lines().enumerate() {
        script.push_str(&format!("{line} >{number:03} 2>&1 &\n"));
    }
    script.push_str("wait; cat *\n");
    inside(bed, &script)
}

/// What the toolbox tells of `bytes` bytes that arrived as they were sent.
fn whole(bytes: usize) -> String {
    let data: Vec<u8> =
        (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let hex: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{bytes},{hex}")
}
